//! A response that breaks after its head: what the instance did, and what that counts as.

use std::{io, time::Duration};

use crate::{counters::BrokenKind, instance::outlier::Outcome};

/// What the instance did. `Display` completes the sentence "10.0.0.5:7070 …".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Breakage {
    #[error("broke off its response")]
    Closed(#[source] io::Error),
    #[error("sent nothing of its response for {0:?}")]
    Stalled(Duration),
    #[error("sent a body that is not framed as its head says")]
    Malformed,
}

// === impl Breakage ===

impl Breakage {
    /// How it counts for the instance, and what the metrics call it.
    pub(crate) fn counts_as(&self) -> (Outcome, BrokenKind) {
        match self {
            Self::Closed(_) => (Outcome::Broken, BrokenKind::Closed),
            Self::Malformed => (Outcome::Broken, BrokenKind::Malformed),
            Self::Stalled(_) => (Outcome::TimedOut, BrokenKind::Stalled),
        }
    }
}
