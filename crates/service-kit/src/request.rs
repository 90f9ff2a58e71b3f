//! Request id and W3C trace context: in, through and out.
//!
//! A request that arrives with `x-request-id` keeps it, so that one id follows it through the gateway and the service;
//! otherwise it gets one. The same holds for `traceparent` (W3C Trace Context, section 3.2), whose trace id is kept and
//! whose parent id becomes ours. Both are in what is logged for the request, and the id is in the response and in every
//! error body. An id that could not be written into a log or a header safely is replaced.
//!
//! There is no span: a log line asks for the request of its task when it is written ([`RequestContext`] is `Display`).
//! A span would be opened, filled and closed for every request, and most of them have nothing to say.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
};
use serde_json::json;
use uuid::{Builder, fmt::Simple};

/// The header that carries the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that carries the W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const ID_MAX_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// What identifies the request that is being served. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// 1 to 128 of `[A-Za-z0-9._:-]`.
    id: HeaderValue,
    /// That of the client's trace, or of a new one; not 0.
    trace_id: u128,
    /// Ours; not 0.
    span_id: u64,
    flags: u8,
    method: Method,
    /// The pattern that matched; `None`: no route did.
    route: Option<MatchedPath>,
}

/// The id of the request that this task is serving, when there is one.
#[must_use]
pub fn current_id() -> Option<String> {
    CURRENT.try_with(|context| context.id().to_owned()).ok()
}

/// The context of the request that this task is serving, to be sent on with calls to others.
#[must_use]
pub fn current() -> Option<RequestContext> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Does `work`, in a task of its own, for the request that this task is serving; for none if it serves none.
pub fn continuing<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = current();
    async move {
        match context {
            Some(context) => context.during(work).await,
            None => work.await,
        }
    }
}

impl RequestContext {
    /// Takes over what the headers of `request` carry, and makes what they lack.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let headers = request.headers();
        let given = headers.get(REQUEST_ID).filter(|id| is_acceptable(id.as_bytes())).cloned();
        let (trace_id, flags) = trace(headers).unwrap_or_else(|| (rand::random_range(1..=u128::MAX), 0));
        Self {
            id: given.unwrap_or_else(new_id),
            trace_id,
            // Not all zeros, which would not be an id. The thread's generator, because asking the kernel for each of
            // them costs more than a small request does otherwise.
            span_id: rand::random_range(1..=u64::MAX),
            flags,
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    /// The request id: 1 to 128 of `[A-Za-z0-9._:-]`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.to_str().expect("these characters can be in a header")
    }

    /// [`RequestContext::id`], for the response.
    #[must_use]
    pub fn id_header(&self) -> HeaderValue {
        self.id.clone()
    }

    /// `00-<trace id>-<our span id>-<flags>`, to be sent with calls made on behalf of this request.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.trace_id(), self.span_id, self.flags)
    }

    /// The 32 hexadecimal digits that all spans of one trace share.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Does `work` for this request, also when its handler has returned.
    pub fn during<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// The pattern, not the path: `/v1/users/{name}` names no user.
    fn route(&self) -> &str {
        self.route.as_ref().map_or("unmatched", MatchedPath::as_str)
    }

    /// As a log line in JSON has it below `span`.
    pub(crate) fn to_json(&self) -> String {
        json!({
            "name": "request",
            "request_id": self.id(),
            "trace_id": self.trace_id(),
            "method": self.method.as_str(),
            "route": self.route(),
        })
        .to_string()
    }
}

/// As a log line for persons has it.
impl fmt::Display for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, method, .. } = self;
        write!(f, "request_id={} trace_id={trace_id:032x} method={method} route={}", self.id(), self.route())
    }
}

/// Trace id and flags that the headers carry.
fn trace(headers: &HeaderMap) -> Option<(u128, u8)> {
    let (trace_id, flags) = parse_traceparent(headers.get(TRACEPARENT)?.to_str().ok()?)?;
    Some((u128::from_str_radix(trace_id, 16).ok()?, u8::from_str_radix(flags, 16).ok()?))
}

/// A request id of our own, a UUID of version 7: later ones sort behind earlier ones.
fn new_id() -> HeaderValue {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or_default();
    let id = Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().simple();
    HeaderValue::from_str(id.encode_lower(&mut [0; Simple::LENGTH])).expect("hexadecimal digits can be in a header")
}

/// Whether a request id that a client sent may be kept: 1 to 128 of `[A-Za-z0-9._:-]`.
#[must_use]
pub fn is_acceptable(id: &[u8]) -> bool {
    (1..=ID_MAX_BYTES).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

/// Trace id and flags of a `traceparent` that we understand: any version but `ff`, lower-case hexadecimal, no all-zero
/// id.
#[must_use]
pub fn parse_traceparent(value: &str) -> Option<(&str, &str)> {
    let mut parts = value.trim().split('-');
    let version = parts.next()?;
    let trace_id = parts.next()?;
    let parent_id = parts.next()?;
    let flags = parts.next()?;
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    let extra_is_allowed = version != "00" || parts.next().is_none();
    (hex(version, 2) && version != "ff" && extra_is_allowed)
        .then_some(())
        .filter(|()| {
            hex(trace_id, 32) && nonzero(trace_id) && hex(parent_id, 16) && nonzero(parent_id) && hex(flags, 2)
        })
        .map(|()| (trace_id, flags))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn with(name: &'static str, value: &'static str) -> RequestContext {
        RequestContext::of(&Request::builder().header(name, value).body(Body::empty()).unwrap())
    }

    fn plain() -> RequestContext {
        RequestContext::of(&Request::new(Body::empty()))
    }

    #[test]
    fn an_acceptable_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(with("x-request-id", "abc-1").id(), "abc-1");
        for bad in ["", "a b", "a\"b", "<script>"] {
            assert_ne!(with("x-request-id", bad).id(), bad);
        }
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_our_own() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = with("traceparent", given);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.traceparent().ends_with("-01") && context.traceparent() != given);
    }

    #[test]
    fn ids_of_our_own_differ_and_sort_by_time_and_begin_a_trace_that_others_understand() {
        let contexts: Vec<_> = (0..100).map(|_| plain()).collect();
        let ids: std::collections::BTreeSet<_> = contexts.iter().map(RequestContext::id).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 32 && is_acceptable(id.as_bytes()) && &id[12..13] == "7"));
        assert!(contexts[0].id()[..12] <= contexts[99].id()[..12]);
        assert!(contexts.iter().all(|context| parse_traceparent(&context.traceparent()).is_some()));
    }

    #[test]
    fn a_broken_traceparent_starts_a_new_trace() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
