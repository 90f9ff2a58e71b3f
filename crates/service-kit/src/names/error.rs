use std::time::Duration;

use hickory_resolver::net::{DnsError, NetError};

/// Why a look-up has no answer. `Display` is a sentence without an end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// A name server says so (NXDOMAIN).
    #[error("there is no such name")]
    NoSuchName,
    /// The name is there, but has neither A nor AAAA records.
    #[error("the name has no address")]
    NoAddress,
    /// No name server has said anything.
    #[error("no name server answered within {0:?}")]
    Timeout(Duration),
    /// The name servers failed; what the last one said.
    #[error("no name server could answer: {0}")]
    Failed(String),
}

// === impl LookupError ===

impl LookupError {
    /// Whether a name server has said that there is nothing to be found, rather than failed.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoAddress)
    }

    /// A name server was asked for at most `limit`.
    pub(super) fn of(error: &NetError, limit: Duration) -> Self {
        match error {
            error if error.is_nx_domain() => Self::NoSuchName,
            error if error.is_no_records_found() => Self::NoAddress,
            NetError::Timeout => Self::Timeout(limit),
            NetError::Dns(DnsError::ResponseCode(code)) => Self::Failed(format!("it answered {code}")),
            error => Self::Failed(error.to_string()),
        }
    }
}
