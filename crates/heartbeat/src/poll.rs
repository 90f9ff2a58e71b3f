//! A long poll of a setting: what is asked of a registry, and what it answers.

use std::{sync::Arc, time::Duration};

/// How long one poll waits for a change.
pub const WAIT: Duration = Duration::from_secs(20);

/// How long an answer may take beyond that: a registry waits up to a sixteenth longer than it is asked to, and asks
/// etcd for at most two seconds.
pub const ANSWER: Duration = Duration::from_secs(4);

/// What to ask a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollRequest {
    /// What is it now? The registry asks etcd.
    Now,
    /// Is it different from what it was at this index? The registry waits.
    After(i64),
}

/// What one registry said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PollResponse {
    /// What to wait for a change from.
    pub(crate) index: i64,
    /// Up to where it knows etcd's history.
    pub(crate) revision: i64,
    pub(crate) value: Option<Arc<str>>,
}

// === impl PollRequest ===

impl PollRequest {
    /// The query of the request.
    pub(crate) fn query(self) -> Option<String> {
        match self {
            Self::Now => None,
            Self::After(index) => Some(format!("index={index}&wait={}s", WAIT.as_secs())),
        }
    }

    /// How long the whole request may take.
    pub(crate) fn deadline(self) -> Duration {
        match self {
            Self::Now => ANSWER,
            Self::After(_) => WAIT + ANSWER,
        }
    }
}
