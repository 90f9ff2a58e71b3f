//! Who sent the request that is being served.

use std::sync::Arc;

use axum::http::StatusCode;

use super::{Action, Grant};
use crate::Problem;

tokio::task_local! {
    static CURRENT: Caller;
}

/// Who sent a request, as far as a token or a signature proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Authentication is disabled: there are no tokens.
    Anonymous,
    /// The holder of a token.
    Holder(Arc<Grant>),
}

// === impl Caller ===

impl Caller {
    /// The caller of the request that this task is serving; `None` outside of one, where our own code acts.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Does `work` for this caller.
    pub fn asking<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// The token's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Holder(grant) => Some(&grant.name),
        }
    }

    /// Lets the request pass if the caller may do `action` to `service`; `*` stands for all services at once.
    ///
    /// # Errors
    /// 403 `out_of_scope`, naming the scope that is missing.
    pub fn require(&self, service: &str, action: Action) -> Result<(), Problem> {
        match self {
            Self::Anonymous => Ok(()),
            Self::Holder(grant) if grant.allows(service, action) => Ok(()),
            Self::Holder(grant) => Err(out_of_scope(grant, &format!("{service}:{action}"))),
        }
    }

    /// The same when it is not known yet to which service: the caller may do it to at least one.
    ///
    /// # Errors
    /// 403 `out_of_scope`.
    pub fn require_somewhere(&self, action: Action) -> Result<(), Problem> {
        match self {
            Self::Anonymous => Ok(()),
            Self::Holder(grant) if grant.allows_somewhere(action) => Ok(()),
            Self::Holder(grant) => Err(out_of_scope(grant, &format!("SERVICE:{action}"))),
        }
    }
}

fn out_of_scope(grant: &Grant, needed: &str) -> Problem {
    let detail = format!("the token {} may not do that; it needs the scope {needed}", grant.name);
    Problem::new(StatusCode::FORBIDDEN, "out_of_scope", detail)
}
