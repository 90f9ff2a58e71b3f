//! Why a request may not pass, as its client is told: status, code, sentence, and the fields that go with them.

use std::borrow::Cow;

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
}

// === impl Denial ===

impl Denial {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), fields: Vec::new() }
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.status, self.code, self.detail.as_ref())
    }
}
