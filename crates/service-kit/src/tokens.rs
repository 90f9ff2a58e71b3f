//! Who may do what: API tokens from a file, or none at all.
//!
//! ```text
//! # name     secret, hashed                                        what it may do
//! ci         sha256:5e884898da28047151d0e56f8dc62927…              mail:register,mail:read
//! ops        sha256:2c26b46b68ffc68ff99b453c1d304134…              *:*
//! shop-7     hmac-sha256:8f434346648f6b96df89dda901c5176b…         shop:register
//! ```
//!
//! Each line is one token: a name that may stand in logs, what proves it, and [`Scope`]s, `SERVICE:ACTION` separated by
//! commas, where either side may be `*`. A client sends `Authorization: Bearer TOKEN`; the file holds only the token's
//! SHA-256, so a reader of the file cannot use it. That is enough because tokens are 256 random bits
//! ([`NewToken::random`]); a slow password hash would cost every heartbeat its milliseconds and protect nothing more. A
//! `hmac-sha256:` line is for clients that sign their requests instead ([`crate::signature`]); its key must be kept in
//! clear.
//!
//! | what came | status | code |
//! |---|---|---|
//! | no token, or another scheme | 401 | `token_missing` |
//! | a token that is not in the file | 401 | `token_unknown` |
//! | a signature that is wrong, too old, seen before, or covers too little | 401 | `signature_refused` |
//! | a token without that scope | 403 | `out_of_scope` |
//!
//! Without a file authentication is disabled: every client has full access, as on a laptop; [`warn_if_open`] says so
//! when others can connect. The file is read again when it changes; an invalid version leaves the old one in force.
//!
//! How a service uses it: `.layer(from_fn_with_state(tokens, tokens::authenticate))` around its routes, and in a
//! handler, which finds the [`Caller`] in the request's extensions or as [`Caller::current`]: `caller.require("mail",
//! Action::Write)?`. One that has a layer of its own around all routes asks [`Tokens::identify`] there instead, and does
//! what the caller wants within [`Caller::asking`]: every layer costs every request a copy of what is within it.

mod authenticate;
mod caller;
mod file;
mod new;
mod scope;

use std::{net::SocketAddr, path::Path, sync::Arc, time::SystemTime};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::sync::watch;

use self::file::TokenFile;
pub use self::{
    authenticate::{authenticate, challenged},
    caller::Caller,
    new::{NewSecret, NewToken},
    scope::{Action, Grant, Scope, ScopeError},
};
use crate::{
    reload::{ReloadError, Reloaded},
    signature::Replays,
};

/// The tokens in force. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// `None`: authentication is disabled.
    file: Option<Reloaded<TokenFile>>,
    replays: Arc<Replays>,
    refused: Family<RefusedLabels, Counter>,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Refusal {
    /// No token, or another scheme.
    Missing,
    /// No such token.
    Unknown,
    /// A signature that does not hold.
    Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: Refusal,
}

// === impl Tokens ===

impl Tokens {
    /// Authentication is disabled.
    #[must_use]
    pub fn open() -> Self {
        Self { file: None, replays: Arc::default(), refused: Family::default() }
    }

    /// The tokens of `file`, now and after every change; [`Tokens::open`] when there is none.
    ///
    /// # Errors
    /// The file cannot be read, or a line is invalid.
    ///
    /// # Panics
    /// With a file and outside a Tokio runtime.
    pub fn load(file: Option<&Path>) -> Result<Self, ReloadError> {
        let parse = |contents: &[Vec<u8>]| TokenFile::parse(contents.first().map_or(&[], Vec::as_slice));
        let file = file.map(|path| Reloaded::follow("API tokens", vec![path.to_owned()], parse)).transpose()?;
        Ok(Self { file, ..Self::open() })
    }

    /// Registers `auth_refused_total{reason}`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("auth_refused", "Requests without a token or signature that counts", self.refused.clone());
    }

    /// Whether authentication is disabled.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.file.is_none()
    }

    /// Whose token this is.
    pub(crate) fn bearer(&self, token: &str) -> Option<Arc<Grant>> {
        self.file.as_ref()?.get().bearer(token)
    }

    /// The key and the rights of a signing client.
    pub(crate) fn signing(&self, name: &str) -> Option<(ring::hmac::Key, Arc<Grant>)> {
        self.file.as_ref()?.get().signing(name)
    }

    /// Is marked as changed when there is a new version of the file; `None`: there are no tokens.
    #[must_use]
    pub fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.file.as_ref().map(Reloaded::subscribe)
    }

    /// Whether a signature's nonce is new; from now on it is not.
    pub(crate) fn is_first(&self, name: &str, nonce: &str, now: SystemTime) -> bool {
        self.replays.is_first(name, nonce, now)
    }

    pub(crate) fn count(&self, reason: Refusal) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }
}

/// Warns that authentication is disabled, so that every client that can connect to `listen` has full access; `option`
/// enables it.
pub fn warn_if_open(tokens: &Tokens, listen: SocketAddr, option: &str) {
    if tokens.is_open() && !listen.ip().to_canonical().is_loopback() {
        tracing::warn!(%listen, "authentication is disabled: anyone who can connect has full access; set {option}");
    }
}
