//! Whether a page of another site may read an answer of the gateway's own (CORS; Fetch, section 3.2).
//!
//! What an instance answers says so itself and passes as it is. When no instance answers, the page would learn nothing but that
//! "the network" failed; with these fields it can read the reason, and when to ask again.

use std::borrow::Cow;

use discovery::policy;
use http1::{Name, One, Request, write};

/// What an answer says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Cors {
    /// Nothing.
    #[default]
    Unsaid,
    /// This page may not, another may: caches must not mix them up.
    Refused,
    /// A page of this origin may.
    Allowed(Cow<'static, [u8]>),
}

// === impl Cors ===

impl Cors {
    /// What `policy` says about this request. Nothing is allocated but for a request of an origin that is on the list.
    pub(crate) fn of(policy: &policy::Cors, request: &Request<'_>) -> Self {
        if policy.origins.is_empty() {
            return Self::Unsaid;
        }
        let One::One(origin) = request.fields.get(Name::Origin) else { return Self::Refused };
        if policy.origins.iter().any(|allowed| allowed == "*") {
            Self::Allowed(Cow::Borrowed(b"*"))
        } else if policy.origins.iter().any(|allowed| allowed.as_bytes() == origin) {
            Self::Allowed(Cow::Owned(origin.to_vec()))
        } else {
            Self::Refused
        }
    }

    /// Writes the fields.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if let Self::Allowed(origin) = self {
            write::field(out, b"Access-Control-Allow-Origin", origin);
            write::field(out, b"Access-Control-Expose-Headers", b"Retry-After, X-Request-Id");
        }
        if *self != Self::Unsaid {
            write::field(out, b"Vary", b"Origin");
        }
    }
}
