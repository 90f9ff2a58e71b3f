//! One request to one registry, with a deadline, and what its answer means.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
        header::{CONTENT_TYPE, IF_MATCH, RETRY_AFTER, USER_AGENT},
    },
};
use discovery::{
    Incarnation, InstanceId, ServiceName, SettingKey,
    heartbeat::{FullHeartbeat, HeartbeatReply},
};
use service_kit::client::{Answer, ClientError, HttpClient};
use url::Url;

use crate::{
    Credentials, HeartbeatError, RegistryUrl, Unreadable,
    poll::{PollRequest, PollResponse},
    refusal::Refusal,
    rpc::Rpc,
};

/// A reply is 100 bytes, a problem perhaps 500: more is not read.
const BODY_MAX_BYTES: usize = 16 * 1024;
/// The longest value of a setting.
const VALUE_MAX_BYTES: usize = 64 * 1024;
/// What to wait for a change of a setting from, also of one that is not there.
const INDEX: HeaderName = HeaderName::from_static("x-muster-index");
/// Up to where the registry knows etcd's history.
const REVISION: HeaderName = HeaderName::from_static("x-muster-revision");

/// The HTTP side of a heartbeat. It follows no redirects and knows no proxies: heartbeats go where they are sent.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Made when first needed, again and again while a file for it is missing.
    http: OnceLock<HttpClient>,
    is_tls: bool,
    credentials: Credentials,
    rpc: Rpc,
}

// === impl Client ===

impl Client {
    /// For these registries.
    pub(crate) fn new(credentials: Credentials, registries: &[RegistryUrl]) -> Self {
        let is_tls = registries.iter().any(RegistryUrl::is_tls);
        Self { http: OnceLock::new(), is_tls, credentials, rpc: Rpc::default() }
    }

    /// Sends a heartbeat of an instance to `registry`.
    pub(crate) async fn put(
        &self,
        registry: &RegistryUrl,
        (service, id): (&ServiceName, &InstanceId),
        heartbeat: &FullHeartbeat,
        deadline: Duration,
    ) -> Result<HeartbeatReply, HeartbeatError> {
        if registry.is_rpc() {
            return self.rpc.put(registry, &self.credentials, (service, id), heartbeat, deadline).await;
        }
        let url = registry.instance(service, id);
        let body = serde_json::to_vec(heartbeat).expect("a struct of strings and numbers always becomes JSON");
        let body = self.exchange(registry, (Method::PUT, &url, body.into(), None), deadline).await?;
        serde_json::from_slice(&body).map_err(|error| HeartbeatError::Nonsense {
            registry: registry.clone(),
            reason: format!("success with a body that is no reply to a heartbeat ({error})"),
        })
    }

    /// Deregisters the life `incarnation` of an instance at `registry`. An instance that it does not know is as gone as
    /// one that it removed, or whose id another one has.
    pub(crate) async fn delete(
        &self,
        registry: &RegistryUrl,
        (service, id): (&ServiceName, &InstanceId),
        incarnation: Incarnation,
        deadline: Duration,
    ) -> Result<(), HeartbeatError> {
        let left = if registry.is_rpc() {
            self.rpc.delete(registry, &self.credentials, (service, id), incarnation, deadline).await
        } else {
            let url = registry.instance(service, id);
            self.exchange(registry, (Method::DELETE, &url, Bytes::new(), Some(incarnation)), deadline).await.map(drop)
        };
        match left {
            Ok(())
            | Err(
                HeartbeatError::Refused { status: 404 | 410, .. }
                | HeartbeatError::AnotherIncarnation { .. }
                | HeartbeatError::IncarnationEnded { .. },
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks `registry` for a setting. That there is none is an answer, too, if it comes from a registry.
    pub(crate) async fn get_setting(
        &self,
        registry: &RegistryUrl,
        key: &SettingKey,
        request: PollRequest,
    ) -> Result<PollResponse, HeartbeatError> {
        let mut url = registry.setting(key);
        url.set_query(request.query().as_deref());
        let bounds = (request.deadline(), VALUE_MAX_BYTES + 1);
        let answer = self.send(registry, (Method::GET, &url, Bytes::new(), None), bounds).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if answer.headers.contains_key(INDEX) => {}
            status => return Err(classify(registry.clone(), status, &answer.headers, &answer.body)),
        }
        said(&answer).map_err(|reason| HeartbeatError::Nonsense { registry: registry.clone(), reason })
    }

    /// Sends a request and reads the whole answer within `deadline`. Only 2xx is a success.
    async fn exchange(
        &self,
        registry: &RegistryUrl,
        request: Asked<'_>,
        deadline: Duration,
    ) -> Result<Bytes, HeartbeatError> {
        let answer = self.send(registry, request, (deadline, BODY_MAX_BYTES)).await?;
        match answer.status.is_success() {
            true => Ok(answer.body),
            false => Err(classify(registry.clone(), answer.status, &answer.headers, &answer.body)),
        }
    }

    /// Sends a request; reads the answer within a deadline, and its body up to a number of bytes.
    async fn send(
        &self,
        registry: &RegistryUrl,
        asked: Asked<'_>,
        (deadline, max_bytes): (Duration, usize),
    ) -> Result<Answer, HeartbeatError> {
        let http = self.http().map_err(HeartbeatError::Credentials)?;
        let mut request = Self::request(asked);
        // Last, because a signature covers what the request has by then.
        self.credentials.prove(&mut request).map_err(HeartbeatError::Credentials)?;
        match http.send(request, deadline, max_bytes).await {
            Err(ClientError::TimedOut(after)) => Err(HeartbeatError::TimedOut { registry: registry.clone(), after }),
            Err(error) => Err(HeartbeatError::Unreachable { registry: registry.clone(), source: Arc::new(error) }),
            Ok(answer) => Ok(answer),
        }
    }

    fn http(&self) -> Result<&HttpClient, Unproven> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let made = self.credentials.client(self.is_tls)?;
        Ok(self.http.get_or_init(|| made))
    }

    fn request((method, url, body, only): Asked<'_>) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().expect("a URL without a fragment is a URI");
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("muster-heartbeat/", env!("CARGO_PKG_VERSION"))));
        if let Some(incarnation) = only {
            let tag = HeaderValue::try_from(format!("\"{incarnation}\"")).expect("digits between quotes");
            headers.insert(IF_MATCH, tag);
        }
        request
    }
}

type Unproven = Arc<Unreadable>;

/// Method, URL and body, and the incarnation that it is only for.
type Asked<'a> = (Method, &'a Url, Bytes, Option<Incarnation>);

/// Reads 200 with a value, or 404 without one.
fn said(answer: &Answer) -> Result<PollResponse, String> {
    let number = |name| answer.headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    let (Some(index), Some(revision)) = (number(INDEX), number(REVISION)) else {
        return Err("a setting without an index and a revision".to_owned());
    };
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(PollResponse { index, revision, value: None });
    }
    if answer.body.len() > VALUE_MAX_BYTES {
        return Err("a setting of more than 64 KiB".to_owned());
    }
    let value = std::str::from_utf8(&answer.body).map_err(|_| "a setting that is not UTF-8 text".to_owned())?;
    Ok(PollResponse { index, revision, value: Some(value.into()) })
}

/// What an answer that is not a success asks of us.
fn classify(registry: RegistryUrl, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> HeartbeatError {
    let problem = serde_json::from_slice::<serde_json::Value>(body).ok();
    let member = |name: &str| problem.as_ref().and_then(|problem| problem.get(name));
    let text = |name: &str| member(name).and_then(|value| Some(value.as_str()?.to_owned()));
    let errors = member("errors").and_then(|errors| errors.as_array()).into_iter().flatten();
    let refusal = Refusal {
        status: status.as_u16(),
        code: text("code").unwrap_or_default(),
        detail: text("detail").unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned()),
        fields: errors.filter_map(|error| Some(error.get("field")?.as_str()?.to_owned())).collect(),
        retry_after: retry_after(headers),
        holds: member("holds_ms").and_then(|holds| holds.as_u64()).map(Duration::from_millis),
    };
    refusal.of(registry)
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); a date counts as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use discovery::Ttl;

    use super::*;

    fn classified(status: u16, retry_after: Option<&str>, body: &str) -> HeartbeatError {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        let registry = "http://registry:8500".parse().unwrap();
        classify(registry, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn every_status_that_is_no_success_has_its_meaning() {
        for status in [429, 503] {
            assert!(matches!(classified(status, None, ""), HeartbeatError::Busy { .. }), "{status}");
        }
        for status in [408, 500, 502, 504, 599] {
            assert!(matches!(classified(status, None, ""), HeartbeatError::Failed { .. }), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 405, 413, 422] {
            let error = classified(status, None, "");
            assert!(matches!(error, HeartbeatError::Refused { .. }) && !error.is_transient(), "{status}");
        }
    }

    #[test]
    fn the_fields_that_are_refused_come_from_the_code_and_not_from_the_text() {
        let fields = |body: &str| match classified(422, None, body) {
            HeartbeatError::Refused { fields, .. } => fields,
            other => panic!("{other}"),
        };
        let named = r#"{"code":"invalid_field","detail":"zone: …","errors":[{"field":"zone","reason":"…"}]}"#;
        assert_eq!(fields(named), ["zone"]);
        let denied =
            r#"{"code":"not_allowed","detail":"incarnation: …","errors":[{"field":"incarnation","reason":"…"}]}"#;
        for unnamed in ["", "incarnation", r#"{"code":"invalid_field","detail":"incarnation"}"#, denied] {
            assert_eq!(fields(unnamed), Vec::<String>::new(), "{unnamed}");
        }
    }

    #[test]
    fn retry_after_is_held_within_bounds() {
        for (value, expected_ms) in [
            (None, 250),
            (Some("0"), 250),
            (Some("1"), 1000),
            (Some("86400"), 2000),
            (Some("99999999999999999999"), 250),
            (Some("-1"), 250),
            (Some("Wed, 21 Oct 2015 07:28:00 GMT"), 250),
        ] {
            let HeartbeatError::Busy { retry_after, .. } = classified(503, value, "") else { panic!("{value:?}") };
            assert_eq!(retry_after.as_millis(), expected_ms, "{value:?}");
        }
    }

    #[test]
    fn a_registry_may_say_that_the_registration_holds_nevertheless() {
        let holds = |body: &str| classified(503, None, body).holds().map(|holds| holds.as_millis());
        assert_eq!(holds(r#"{"detail":"etcd is full","holds_ms":5000}"#), Some(5000));
        assert_eq!(holds(r#"{"detail":"etcd is full"}"#), None);
        assert_eq!(holds(r#"{"holds_ms":-1}"#), None);
        assert_eq!(holds(&format!(r#"{{"holds_ms":{}}}"#, u64::MAX)), Some(Ttl::MAX.get().as_millis()));
        assert!(!classified(503, None, r#"{"holds_ms":5000}"#).is_in_doubt());
    }

    #[test]
    fn a_complaint_is_shown_whole_but_cannot_forge_a_log_line() {
        let problem = r#"{"status":422,"detail":"port: 0 is not a port"}"#;
        assert!(classified(422, None, problem).to_string().ends_with("(422): port: 0 is not a port"));
        assert!(classified(404, None, "not\r\nfound").to_string().ends_with("not  found"));
        assert!(classified(404, None, "").to_string().ends_with("no reason given"));
        assert!(classified(404, None, &"x".repeat(5000)).to_string().len() < 300);
    }
}
