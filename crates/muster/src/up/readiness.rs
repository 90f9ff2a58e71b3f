//! Whether a process can do its work: it answers 200 at its readiness URL, or says why not.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;
use service_kit::client::{ClientError, HttpClient};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// More of an answer is not read.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// More of a reason than this is no reason.
const REASON_MAX_CHARS: usize = 200;

/// Asks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Prober(HttpClient);

// === impl Prober ===

impl Prober {
    /// A connection that is kept would keep a process from ending at once.
    pub(crate) fn new() -> Self {
        Self(HttpClient::probe())
    }

    /// The client, for other questions of the same kind.
    pub(crate) fn client(&self) -> &HttpClient {
        &self.0
    }

    /// Asks until the answer is yes; `not_yet` hears every no.
    pub(crate) async fn wait_for(&self, url: &str, mut not_yet: impl FnMut(String)) {
        while let Err(why) = self.ask(url).await {
            not_yet(why);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks once; the error says why not, for a person.
    pub(crate) async fn ask(&self, url: &str) -> Result<(), String> {
        let request = Request::get(url).body(Bytes::new()).map_err(|error| format!("{url}: {error}"))?;
        let answer = self.0.send(request, PATIENCE, BODY_MAX_BYTES).await.map_err(|error| match error {
            ClientError::TimedOut(after) => format!("{url} does not answer within {} s", after.as_secs()),
            _ => format!("{url} does not answer yet"),
        })?;
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        Err(format!("{url} answers {}: {}", answer.status.as_u16(), reason(&answer.text())))
    }
}

/// What a body says: the failing checks of `/readyz`, the detail of a problem, etcd's reason, or its text.
fn reason(body: &str) -> String {
    let parsed = serde_json::from_str::<Value>(body).unwrap_or_default();
    let text = match (parsed["checks"].as_object(), parsed["detail"].as_str(), parsed["health"].as_str()) {
        (Some(checks), ..) => checks
            .iter()
            .filter(|(_, state)| *state != "ok")
            .map(|(name, state)| format!("{name}: {}", state.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join("; "),
        (None, Some(detail), _) => detail.to_owned(),
        // etcd; newer ones say more.
        (None, None, Some("false")) => parsed["reason"].as_str().unwrap_or("it hears no leader").to_owned(),
        (None, None, _) => body.trim().to_owned(),
    };
    text.chars().take(REASON_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_the_service_says_and_not_its_json() {
        let checks = r#"{"status":"not ready","checks":{"database":"ok","registry":"connection refused"}}"#;
        assert_eq!(reason(checks), "registry: connection refused");
        assert_eq!(reason(r#"{"code":"no_instance","detail":"mail is down"}"#), "mail is down");
        assert_eq!(reason(r#"{"health":"false"}"#), "it hears no leader");
        assert_eq!(reason(" plain \n"), "plain");
        assert_eq!(reason(&"x".repeat(1000)).len(), REASON_MAX_CHARS);
    }

    #[tokio::test]
    async fn a_refused_connection_is_not_ready_and_names_the_address() {
        let prober = Prober::new();
        let url = format!("http://127.0.0.1:{}/readyz", testkit::ports::free_ports(1)[0]);
        assert_eq!(prober.ask(&url).await, Err(format!("{url} does not answer yet")));
    }
}
