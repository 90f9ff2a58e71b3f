//! What an answer that is no success asks of us, over whichever protocol it came.

use std::time::Duration;

use discovery::Ttl;

use crate::{HeartbeatError, RegistryUrl};

/// How much of a registry's complaint is kept for a log line.
const DETAIL_MAX_CHARS: usize = 200;
/// The bounds of the wait that a registry asks for: no answer causes a busy loop, and none keeps us away until the lease has
/// ended.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(250);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);

/// A problem as a registry words it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The stable word; empty where none was given.
    pub(crate) code: String,
    /// The sentence.
    pub(crate) detail: String,
    /// The fields that it names as invalid.
    pub(crate) fields: Vec<String>,
    /// When it wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
    /// For how long the registration holds nevertheless.
    pub(crate) holds: Option<Duration>,
}

// === impl Refusal ===

impl Refusal {
    /// What it means, said by `registry`. Anything unexpected (a redirect, say) is a matter of configuration.
    pub(crate) fn of(self, registry: RegistryUrl) -> HeartbeatError {
        let detail = shown(&self.detail);
        match (self.status, self.code.as_str()) {
            (429 | 503, _) => {
                let retry_after = self.retry_after.unwrap_or_default().clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
                // Whatever is said, no longer than a TTL can be.
                let holds = self.holds.map(|holds| holds.min(Ttl::MAX.get()));
                HeartbeatError::Busy { registry, status: self.status, detail, retry_after, holds }
            }
            (409, "another_incarnation") => HeartbeatError::AnotherIncarnation { registry, detail },
            (409, "incarnation_ended") => HeartbeatError::IncarnationEnded { registry, detail },
            (408 | 500.., _) => HeartbeatError::Failed { registry, status: self.status, detail },
            (status, "invalid_field") => HeartbeatError::Refused { registry, status, fields: self.fields, detail },
            (status, _) => HeartbeatError::Refused { registry, status, fields: Vec::new(), detail },
        }
    }
}

/// In a form that may stand in a log line.
fn shown(detail: &str) -> String {
    if detail.is_empty() {
        return "no reason given".to_owned();
    }
    detail.chars().take(DETAIL_MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
