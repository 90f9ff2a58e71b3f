//! The form of signatures before RFC 9421, which older clients send.
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
//! It covers no header field. So it is taken only for requests without a field that decides what they do
//! ([`is_conditional`](super::is_conditional)): with one, who has recorded such a request could send it without.

use std::time::SystemTime;

use ring::{digest, hmac};

use super::is_current;

/// The scheme in `Authorization`.
pub const SCHEME: &str = "Muster-HMAC-SHA256";

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

// === impl Signed ===

impl Signed {
    /// Reads what follows the scheme; each part once, no others.
    #[must_use]
    pub fn parse(parameters: &str) -> Option<Self> {
        let mut name = None;
        let mut ts = None;
        let mut nonce = None;
        let mut signature = None;
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
        is_current(self.ts, now)
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn signed() -> Signed {
        let signature = hmac::sign(&key(), &text("shop", 1000, "00112233", "PUT", "/a?b=c", b"{}"));
        let parameters = format!("name=shop,ts=1000,nonce=00112233,signature={}", hex::encode(signature));
        Signed::parse(&parameters).unwrap()
    }

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &KEY)
    }

    #[test]
    fn a_signature_holds_for_its_request_and_for_no_other() {
        assert!(signed().holds(&key(), "PUT", "/a?b=c", b"{}"));
        for (method, target, body) in [("POST", "/a?b=c", "{}"), ("PUT", "/a?b=d", "{}"), ("PUT", "/a?b=c", "{ }")] {
            assert!(!signed().holds(&key(), method, target, body.as_bytes()), "{method} {target} {body}");
        }
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
        assert!(!signed().holds(&other, "PUT", "/a?b=c", b"{}"));
        assert!(!Signed { ts: 1001, ..signed() }.holds(&key(), "PUT", "/a?b=c", b"{}"));
        assert!(!Signed { name: "other".to_owned(), ..signed() }.holds(&key(), "PUT", "/a?b=c", b"{}"));
    }

    #[test]
    fn the_recipe_gives_what_any_other_hmac_gives() {
        // printf 'MUSTER1\nshop\n1795255000\n00112233\nGET\n/\n<sha256 of nothing>' | openssl dgst -sha256 -mac HMAC
        // -macopt hexkey:0707…
        let signature = hmac::sign(&key(), &text("shop", 1_795_255_000, "00112233", "GET", "/", b""));
        assert_eq!(hex::encode(signature), "adff77a5a15776769622ce05fb66ef7baf0aa48c7626ada916a6083eec8229a5");
    }

    #[test]
    fn a_header_is_read_strictly() {
        let signature = hex::encode(&signed().signature);
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
}
