//! Signed requests: proof of a name without sending a secret, for networks where others listen.
//!
//! HTTP message signatures (RFC 9421) with `hmac-sha256`, so that a client in any language finds a library for it:
//!
//! ```text
//! PUT /v1/config/shop/limit HTTP/1.1
//! If-Match: "7"
//! Content-Type: application/json
//! Content-Digest: sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:
//! Signature-Input: muster=("@method" "@path" "content-digest" "content-type" "if-match");created=1795255000;nonce="4be9…";keyid="shop-7"
//! Signature: muster=:dC8uPQ…=:
//! ```
//!
//! What a signature must cover ([`message`]):
//!
//! | component | when |
//! |---|---|
//! | `@method` | always |
//! | `@path`, and `@query` where there is one; or `@request-target` | always |
//! | `content-digest` (RFC 9530, with `sha-256`) | the request has a body |
//! | each field of [`DECISIVE`] | the request has that field |
//!
//! So nothing that decides what a request does can be changed, added or left out by others. `created` (seconds since
//! 1970), `nonce` (8 to 128 characters that this key has never signed with before) and `keyid` are needed; `expires` is
//! honoured, `alg` may be left out.
//!
//! A server takes it when its own clock is within [`SKEW_MAX`] of `created` and it has not seen the nonce before
//! ([`Replays`]). Each server remembers for itself: behind several registries a request may be sent once more to
//! another one within that time. What is said there is what its author said a moment ago, under the same conditions.
//! The answer is not signed: use TLS where that matters.
//!
//! Older clients send another form ([`legacy`]), which covers no field.

pub mod legacy;
pub mod message;
mod replays;

use std::{
    fmt, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::{
    HeaderMap, HeaderName, Request,
    header::{CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE},
};
use ring::hmac;

pub use self::replays::Replays;
use crate::Secret;

/// How far two clocks may be apart: 30 s.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// The request fields that decide what a request does.
pub const DECISIVE: [HeaderName; 8] = [
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
    HeaderName::from_static("idempotency-key"),
];

/// A name and its key, on the client's side.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    key: hmac::Key,
}

/// Whether a field of `headers` decides whether, or how often, the request is carried out. Not the type of its body,
/// which every client sends.
#[must_use]
pub fn is_conditional(headers: &HeaderMap) -> bool {
    DECISIVE.iter().any(|name| *name != CONTENT_TYPE && headers.contains_key(name))
}

/// Whether something was signed at about `now`.
fn is_current(signed_secs: u64, now: SystemTime) -> bool {
    secs(now).abs_diff(signed_secs) <= SKEW_MAX.as_secs()
}

// === impl SigningKey ===

impl SigningKey {
    /// From `NAME:KEY`, the key in hexadecimal.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &Secret) -> io::Result<Self> {
        let parts = text.expose().trim().split_once(':').filter(|(name, _)| !name.is_empty());
        let key = parts.and_then(|(name, key)| Some((name, hex::decode(key).ok().filter(|key| key.len() == 32)?)));
        let (name, key) =
            key.ok_or_else(|| io::Error::other("it is not NAME:KEY with a key of 64 hexadecimal digits"))?;
        Ok(Self { name: name.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// From a file with `NAME:KEY` and nothing else.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        Self::parse(&Secret::from_file(path)?)
    }

    /// Signs a request that is sent now, as it is: fields that are set later are not covered, and those of [`DECISIVE`]
    /// would have it refused.
    pub fn sign<B: AsRef<[u8]>>(&self, request: &mut Request<B>) {
        message::sign(&self.name, &self.key, request, secs(SystemTime::now()));
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name).finish_non_exhaustive()
    }
}

fn secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_be_half_a_minute_apart_and_no_more() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert!(is_current(970, now) && is_current(1030, now));
        assert!(!is_current(969, now) && !is_current(1031, now) && !is_current(u64::MAX, now));
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = SigningKey::parse(&format!("shop:{}", hex::encode([7; 32])).into()).unwrap();
        assert!(!format!("{key:?}").contains("07"));
        for bad in ["", "shop", ":00", "shop:00", "shop:zz"] {
            assert!(SigningKey::parse(&bad.to_owned().into()).is_err(), "{bad}");
        }
    }
}
