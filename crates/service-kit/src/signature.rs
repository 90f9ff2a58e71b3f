//! Signed requests: proof of a name without sending a secret, for networks where others listen.
//!
//! ```text
//! Authorization: Muster-HMAC-SHA256 name=shop-7,ts=1795255000,nonce=4be9…,signature=0c1f…
//! ```
//!
//! `signature` is the HMAC-SHA256 (RFC 2104), in hexadecimal, of these lines joined by `\n`:
//!
//! ```text
//! MUSTER1            the version of this recipe
//! shop-7             whose key it is
//! 1795255000         seconds since 1970
//! 4be9…              8 to 64 hexadecimal digits that this key has never signed with before
//! PUT                the method
//! /v1/services/…?…   path and query, as sent
//! 9f86…              the SHA-256 of the body, in hexadecimal
//! ```
//!
//! A server takes it when its own clock is within [`SKEW_MAX`] of `ts` and it has not seen the nonce before
//! ([`Replays`]). Each server remembers for itself: behind several registries a request may be sent once more to another
//! one within that time. What is said there is what its author said a moment ago. The answer is not signed: use TLS
//! where that matters.

mod replays;

use std::{
    fmt, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::{
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};

pub use self::replays::Replays;
use crate::Secret;

/// The scheme in `Authorization`.
pub const SCHEME: &str = "Muster-HMAC-SHA256";

/// How far two clocks may be apart: 30 s.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// A name and its key, on the client's side.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    key: hmac::Key,
}

/// What a request says about its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Whose key.
    pub name: String,
    /// When, in seconds since 1970.
    pub ts: u64,
    /// Never used before.
    pub nonce: String,
    signature: Vec<u8>,
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

    /// The value of `Authorization` for a request with this method, path and query, and body, sent now.
    #[must_use]
    pub fn authorization(&self, method: &str, target: &str, body: &[u8]) -> String {
        let ts = secs(SystemTime::now());
        let mut nonce = [0; 16];
        // Without random numbers the same nonce comes again, and is refused: never accepted by mistake.
        let _unlikely = SystemRandom::new().fill(&mut nonce);
        let nonce = hex::encode(nonce);
        let signature = hmac::sign(&self.key, &text(&self.name, ts, &nonce, method, target, body));
        format!("{SCHEME} name={},ts={ts},nonce={nonce},signature={}", self.name, hex::encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Signed ===

impl Signed {
    /// Reads what follows the scheme; each part once, no others.
    #[must_use]
    pub fn parse(parameters: &str) -> Option<Self> {
        let (mut name, mut ts, mut nonce, mut signature) = (None, None, None, None);
        for part in parameters.split(',') {
            let (key, value) = part.trim().split_once('=')?;
            let place = match key {
                "name" => &mut name,
                "ts" => &mut ts,
                "nonce" => &mut nonce,
                "signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let nonce =
            nonce.filter(|nonce| (8..=64).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let signature = hex::decode(signature?).ok().filter(|signature| signature.len() == 32)?;
        Some(Self { name: name?.to_owned(), ts: ts?.parse().ok()?, nonce: nonce.to_owned(), signature })
    }

    /// Whether it was signed at about `now`.
    #[must_use]
    pub fn is_current(&self, now: SystemTime) -> bool {
        secs(now).abs_diff(self.ts) <= SKEW_MAX.as_secs()
    }

    /// Whether the signature is that of this request. Takes the same time whatever is wrong.
    #[must_use]
    pub fn holds(&self, key: &hmac::Key, method: &str, target: &str, body: &[u8]) -> bool {
        hmac::verify(key, &text(&self.name, self.ts, &self.nonce, method, target, body), &self.signature).is_ok()
    }
}

/// What is signed.
fn text(name: &str, ts: u64, nonce: &str, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let body = hex::encode(digest::digest(&digest::SHA256, body));
    format!("MUSTER1\n{name}\n{ts}\n{nonce}\n{method}\n{target}\n{body}").into_bytes()
}

fn secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn signing() -> SigningKey {
        SigningKey::parse(&format!("shop:{}", hex::encode(KEY)).into()).unwrap()
    }

    fn parsed(header: &str) -> Option<Signed> {
        Signed::parse(header.strip_prefix("Muster-HMAC-SHA256 ")?)
    }

    #[test]
    fn a_signature_holds_for_its_request_and_for_no_other() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
        let signed = parsed(&signing().authorization("PUT", "/a?b=c", b"{}")).unwrap();
        assert!(signed.is_current(SystemTime::now()));
        assert!(signed.holds(&key, "PUT", "/a?b=c", b"{}"));
        for (method, target, body) in [("POST", "/a?b=c", "{}"), ("PUT", "/a?b=d", "{}"), ("PUT", "/a?b=c", "{ }")] {
            assert!(!signed.holds(&key, method, target, body.as_bytes()), "{method} {target} {body}");
        }
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
        assert!(!signed.holds(&other, "PUT", "/a?b=c", b"{}"));
        assert!(!Signed { ts: signed.ts + 1, ..signed.clone() }.holds(&key, "PUT", "/a?b=c", b"{}"));
        assert!(!Signed { name: "other".to_owned(), ..signed }.holds(&key, "PUT", "/a?b=c", b"{}"));
    }

    #[test]
    fn the_recipe_gives_what_any_other_hmac_gives() {
        // printf 'MUSTER1\nshop\n1795255000\n00112233\nGET\n/\n<sha256 of nothing>' | openssl dgst -sha256 -mac HMAC
        // -macopt hexkey:0707…
        let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
        let signature = hmac::sign(&key, &text("shop", 1_795_255_000, "00112233", "GET", "/", b""));
        assert_eq!(hex::encode(signature), "adff77a5a15776769622ce05fb66ef7baf0aa48c7626ada916a6083eec8229a5");
    }

    #[test]
    fn clocks_may_be_half_a_minute_apart_and_no_more() {
        let at = |ts| Signed { name: String::new(), ts, nonce: String::new(), signature: Vec::new() };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert!(at(970).is_current(now) && at(1030).is_current(now));
        assert!(!at(969).is_current(now) && !at(1031).is_current(now) && !at(u64::MAX).is_current(now));
    }

    #[test]
    fn a_header_is_read_strictly() {
        let good = parsed(&signing().authorization("GET", "/", b"")).unwrap();
        let signature = hex::encode(&good.signature);
        for bad in [
            String::new(),
            "name=a".to_owned(),
            format!("name=a,ts=1,nonce=00112233,signature={signature},more=1"),
            format!("name=a,name=b,ts=1,nonce=00112233,signature={signature}"),
            format!("name=a,ts=-1,nonce=00112233,signature={signature}"),
            format!("name=a,ts=1,nonce=short,signature={signature}"),
            format!("name=a,ts=1,nonce=0011223,signature={signature}"),
            format!("name=a,ts=1,nonce={},signature={signature}", "0".repeat(65)),
            "name=a,ts=1,nonce=00112233,signature=00".to_owned(),
        ] {
            assert_eq!(Signed::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        assert!(!format!("{:?}", signing()).contains("07"));
        for bad in ["", "shop", ":00", "shop:00", "shop:zz"] {
            assert!(SigningKey::parse(&bad.to_owned().into()).is_err(), "{bad}");
        }
    }
}
