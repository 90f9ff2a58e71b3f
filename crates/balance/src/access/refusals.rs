//! 401 and 403: what is missing, what is wrong, and how to show it.
//!
//! | what came | status | code | RFC 6750 |
//! |---|---|---|---|
//! | nothing | 401 | `credentials_missing` | a challenge without `error` |
//! | the same field twice | 401 | `credentials_invalid` | `invalid_request` |
//! | a name or a password that is wrong | 401 | `credentials_invalid` | (a challenge of RFC 7617) |
//! | another credential that does not count | 401 | `credentials_invalid` | `invalid_token` |
//! | a key whose time is over | 401 | `expired` | `invalid_token` |
//! | one that counts, for something else | 403 | `out_of_scope` | `insufficient_scope` |
//! | a client that is somewhere else | 403 | `client_not_allowed` | |
//! | more passwords than are checked at the same time | 429 | `too_many_passwords` | |
//! | nothing that could be judged, because what would judge it is away | 503 | `auth_unavailable` | |

use std::time::Duration;

use http::StatusCode;

use crate::message::denial::Denial;

const CHALLENGE: &str = "WWW-Authenticate";

/// What the refusals of one service have in common.
#[derive(Debug)]
pub(crate) struct Refusals {
    realm: Box<str>,
    /// The challenges of a client that shows nothing.
    challenges: Vec<String>,
}

// === impl Refusals ===

impl Refusals {
    /// Those of `service`. `schemes` are the ways in that a client can be asked for.
    pub(crate) fn new(service: &str, schemes: &[&str]) -> Self {
        let challenges = schemes.iter().map(|scheme| format!("{scheme} realm=\"{service}\"")).collect();
        Self { realm: service.into(), challenges }
    }

    /// The client has shown nothing.
    pub(crate) fn missing(&self) -> Box<Denial> {
        let detail =
            "this service asks who you are, and the request does not say; the WWW-Authenticate header lists how";
        let denial = Denial::new(StatusCode::UNAUTHORIZED, "credentials_missing", detail);
        let fields = self.challenges.iter().map(|challenge| (CHALLENGE, challenge.clone()));
        Box::new(fields.fold(denial, |denial, (name, value)| denial.with(name, value)))
    }

    /// What it has shown does not count; `why` says what is wrong and nothing of it.
    pub(crate) fn invalid(&self, why: &'static str) -> Box<Denial> {
        self.refused("invalid_token", why)
    }

    /// The key counted once.
    pub(crate) fn expired(&self) -> Box<Denial> {
        let challenge = self.challenge("invalid_token", "the key has expired");
        let detail = "the key has expired; ask for a new one where you got it";
        Box::new(Denial::new(StatusCode::UNAUTHORIZED, "expired", detail).with(CHALLENGE, challenge))
    }

    /// The name or the password is wrong; which of them is not said.
    pub(crate) fn wrong_password(&self) -> Box<Denial> {
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm);
        let why = "name or password are wrong";
        Box::new(Denial::new(StatusCode::UNAUTHORIZED, "credentials_invalid", why).with(CHALLENGE, challenge))
    }

    /// The client tries more passwords than are worked on.
    pub(crate) fn too_many_passwords() -> Box<Denial> {
        let detail = "as many of your passwords are being checked as may be; wait for the answers";
        let denial = Denial::new(StatusCode::TOO_MANY_REQUESTS, "too_many_passwords", detail);
        Box::new(denial.after(Duration::from_secs(2)))
    }

    /// What it has shown cannot be read in one way.
    pub(crate) fn ambiguous(&self, why: &'static str) -> Box<Denial> {
        self.refused("invalid_request", why)
    }

    fn refused(&self, error: &str, why: &'static str) -> Box<Denial> {
        let challenge = self.challenge(error, why);
        Box::new(Denial::new(StatusCode::UNAUTHORIZED, "credentials_invalid", why).with(CHALLENGE, challenge))
    }

    fn challenge(&self, error: &str, why: &str) -> String {
        format!("Bearer realm=\"{}\", error=\"{error}\", error_description=\"{why}\"", self.realm)
    }

    /// The client is known, and may not do this; `scope` is what it lacks.
    pub(crate) fn out_of_scope(&self, why: &'static str, scope: &str) -> Box<Denial> {
        let scope = if scope.is_empty() { String::new() } else { format!(", scope=\"{scope}\"") };
        let challenge = format!("Bearer realm=\"{}\", error=\"insufficient_scope\"{scope}", self.realm);
        Box::new(Denial::new(StatusCode::FORBIDDEN, "out_of_scope", why).with(CHALLENGE, challenge))
    }

    /// The client is where it may not be.
    pub(crate) fn elsewhere() -> Box<Denial> {
        let detail = "this service is not for clients where you are";
        Box::new(Denial::new(StatusCode::FORBIDDEN, "client_not_allowed", detail))
    }
}
