//! Why a request may not pass, as its client gets it: status, code, sentence, and the fields that go with them.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use service_kit::Problem;

/// A request that is understood and not let through. Nothing of a credential is ever in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    detail: Cow<'static, str>,
    /// Further fields of the answer.
    pub(crate) fields: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
}

// === impl Denial ===

impl Denial {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), fields: Vec::new(), retry_after: None }
    }

    /// What would have to be asked does not answer: closed, not open, and the client may come again.
    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "auth_unavailable", detail).after(Duration::from_secs(2))
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub(crate) fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn problem(&self) -> Problem {
        let problem = Problem::new(self.status, self.code, self.detail.as_ref());
        match self.retry_after {
            Some(wait) => problem.retry_after(wait),
            None => problem,
        }
    }
}
