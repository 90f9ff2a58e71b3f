//! Request id and W3C trace context: in, through and out.
//!
//! A request that arrives with `x-request-id` keeps it, so that one id follows it through the gateway and the service;
//! otherwise it gets one. The same holds for `traceparent` (W3C Trace Context, section 3.2), whose trace id is kept and
//! whose parent id becomes ours. Both are in the request's log span, and the id is in the response and in every error
//! body. An id that could not be written into a log or a header safely is replaced.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument as _;
use uuid::Builder;

/// The header that carries the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that carries the W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const ID_MAX_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// What identifies the request that is being served.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The request id: 1 to 128 of `[A-Za-z0-9._:-]`.
    pub id: String,
    /// `00-<trace id>-<our span id>-<flags>`, to be sent with calls made on behalf of this request.
    pub traceparent: String,
}

/// The id of the request that this task is serving, when there is one.
#[must_use]
pub fn current_id() -> Option<String> {
    CURRENT.try_with(|context| context.id.clone()).ok()
}

/// The context of the request that this task is serving, to be sent on with calls to others.
#[must_use]
pub fn current() -> Option<RequestContext> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Middleware (`axum::middleware::from_fn(request::identify)`): settles the ids, opens the log span, answers with the
/// id.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let context = RequestContext::of(request.headers());
    // The pattern, not the path: /v1/users/{name} names no user.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        request_id = %context.id,
        trace_id = context.trace_id(),
        method = %request.method(),
        route,
    );
    if let Ok(value) = HeaderValue::from_str(&context.id) {
        request.headers_mut().insert(REQUEST_ID, value);
    }
    let header = HeaderValue::from_str(&context.id).ok();
    let mut response = CURRENT.scope(context, next.run(request).instrument(span)).await;
    if let Some(value) = header {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

impl RequestContext {
    /// Does `work` for this request, which goes on when its handler has returned.
    pub fn during<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// Takes over what the headers carry, and makes what they lack.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let id = text(REQUEST_ID).filter(|id| is_acceptable(id.as_bytes())).map_or_else(new_id, str::to_owned);
        // Neither is all zeros, which would not be an id. The thread's generator, because asking the kernel for each of
        // them costs more than a small request does otherwise.
        let span_id = rand::random_range(1..=u64::MAX);
        let traceparent = match text(TRACEPARENT).and_then(parse_traceparent) {
            Some((trace_id, flags)) => format!("00-{trace_id}-{span_id:016x}-{flags}"),
            None => format!("00-{:032x}-{span_id:016x}-00", rand::random_range(1..=u128::MAX)),
        };
        Self { id, traceparent }
    }

    /// The 32 hexadecimal digits that all spans of one trace share.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap_or_default()
    }
}

/// A request id of our own, a UUID of version 7: later ones sort behind earlier ones.
fn new_id() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().simple().to_string()
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
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn an_acceptable_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(RequestContext::of(&headers("x-request-id", "abc-1")).id, "abc-1");
        for bad in ["", "a b", "a\"b", "<script>"] {
            assert_ne!(RequestContext::of(&headers("x-request-id", bad)).id, bad);
        }
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_our_own() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = RequestContext::of(&headers("traceparent", given));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.traceparent.ends_with("-01") && context.traceparent != given);
    }

    #[test]
    fn ids_of_our_own_differ_and_sort_by_time_and_begin_a_trace_that_others_understand() {
        let contexts: Vec<_> = (0..100).map(|_| RequestContext::of(&HeaderMap::new())).collect();
        let ids: std::collections::BTreeSet<_> = contexts.iter().map(|context| &context.id).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 32 && is_acceptable(id.as_bytes()) && &id[12..13] == "7"));
        assert!(contexts[0].id[..12] <= contexts[99].id[..12]);
        assert!(contexts.iter().all(|context| parse_traceparent(&context.traceparent).is_some()));
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
