//! DKIM (RFC 6376): a signature by which a receiver sees that a message is ours and was not changed.
//!
//! A relay usually signs; this is for those that do not. The key is an RSA or Ed25519 private key in PEM (PKCS #1 for RSA;
//! for Ed25519 its 32 bytes in base64, RFC 8463), and its public half is in the DNS at `SELECTOR._domainkey.DOMAIN`. Signed
//! are the headers that readers see, and the body; relaxed canonicalisation survives relays that fold lines differently.
//!
//! lettre signs only what is in memory as a whole. Here the body is hashed as it goes by ([`BodyHash`]), so that an
//! attachment of any size can stay on the disk.

use std::{fmt, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs1KeyDer, pem::PemObject as _};
use service_kit::Secret;

use crate::clock::Moment;

/// What is signed, if it is there.
const HEADERS: [&str; 7] = ["From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID"];
/// Characters of a signature on one line, so that no line is longer than 78 (RFC 5322, section 2.1.1).
const LINE_CHARS: usize = 72;

/// Signs messages.
pub struct Dkim {
    domain: String,
    selector: String,
    key: Key,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// SHA-256 of a body in its relaxed form (RFC 6376, section 3.4.4), of which it is given piece by piece.
pub struct BodyHash {
    context: digest::Context,
    /// Line ends that count only if something follows.
    line_ends: usize,
    /// White space that counts only if the line goes on.
    is_spaced: bool,
    is_empty: bool,
}

// === impl Dkim ===

impl Dkim {
    /// Reads the key from `file`.
    ///
    /// # Errors
    /// Says what to change.
    pub fn new(domain: &str, selector: &str, file: &Path) -> Result<Self, String> {
        let text = Secret::from_file(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let key = if text.expose().contains("RSA PRIVATE KEY") { rsa(text.expose()) } else { ed25519(text.expose()) };
        let key = key.ok_or(
            "it holds neither an RSA key of 2048 to 4096 bits (PEM, \"BEGIN RSA PRIVATE KEY\") nor 32 bytes of Ed25519 in base64",
        )?;
        Ok(Self { domain: domain.to_owned(), selector: selector.to_owned(), key })
    }

    /// The `DKIM-Signature` header of a message with these headers (lines that end with CR LF) and a body of this hash.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign(&self, headers: &str, body: BodyHash, at: Moment) -> Result<String, ring::error::Unspecified> {
        let fields = fields(headers);
        let signed: Vec<(&str, &str)> = HEADERS.iter().filter_map(|name| last(&fields, name)).collect();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let unsigned = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed; q=dns/txt;\r\n d={}; s={}; t={};\r\n h={};\r\n bh={};\r\n b=",
            self.key.algorithm(),
            self.domain,
            self.selector,
            at.0 / 1000,
            names.join(":"),
            BASE64_STANDARD.encode(body.finish()),
        );
        let mut text: String = signed.iter().map(|(name, value)| relaxed(name, value) + "\r\n").collect();
        let (name, value) = unsigned.split_once(':').unwrap_or_default();
        // Its own signature is left empty, and no line end follows (section 3.7).
        text.push_str(&relaxed(name, value));
        let signature = BASE64_STANDARD.encode(self.key.sign(text.as_bytes())?);
        let (first, rest) = signature.split_at(LINE_CHARS.min(signature.len()));
        let rest = rest.as_bytes().chunks(LINE_CHARS).map(String::from_utf8_lossy);
        Ok(rest.fold(unsigned + first, |header, line| header + "\r\n " + &line) + "\r\n")
    }
}

/// Without the key.
impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dkim").field("domain", &self.domain).field("selector", &self.selector).finish_non_exhaustive()
    }
}

// === impl Key ===

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)?;
                Ok(signature)
            }
            // Of the hash, not of the text (RFC 8463, section 3).
            Self::Ed25519(key) => Ok(key.sign(digest::digest(&digest::SHA256, text).as_ref()).as_ref().to_vec()),
        }
    }
}

fn rsa(pem: &str) -> Option<Key> {
    let der = PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(|key| Key::Rsa(Box::new(key)))
}

fn ed25519(base64: &str) -> Option<Key> {
    let seed = BASE64_STANDARD.decode(base64.trim()).ok()?;
    Ed25519KeyPair::from_seed_unchecked(&seed).ok().map(Key::Ed25519)
}

/// Names and values, the values with their folds.
fn fields(headers: &str) -> Vec<(&str, &str)> {
    let mut fields = Vec::new();
    let mut rest = headers;
    while !rest.is_empty() {
        let ends = rest.match_indices("\r\n").map(|(at, _)| at + 2);
        let goes_on = |end: &usize| rest[*end..].starts_with([' ', '\t']);
        let end = ends.into_iter().find(|end| !goes_on(end)).unwrap_or(rest.len());
        let (field, others) = rest.split_at(end);
        fields.extend(field.split_once(':'));
        rest = others;
    }
    fields
}

/// The last one of that name: that is the one which is meant (section 5.4.2).
fn last<'h>(fields: &[(&'h str, &'h str)], name: &str) -> Option<(&'h str, &'h str)> {
    fields.iter().rev().find(|(other, _)| other.trim_end().eq_ignore_ascii_case(name)).copied()
}

/// A header in its relaxed form (section 3.4.2), without a line end.
fn relaxed(name: &str, value: &str) -> String {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let words: Vec<&str> = value.split(is_space).filter(|word| !word.is_empty()).collect();
    format!("{}:{}", name.trim_end().to_ascii_lowercase(), words.join(" "))
}

// === impl BodyHash ===

impl BodyHash {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { context: digest::Context::new(&digest::SHA256), line_ends: 0, is_spaced: false, is_empty: true }
    }

    /// The next piece. Its lines end with CR LF, wherever it is cut.
    pub fn update(&mut self, piece: &[u8]) {
        let mut relaxed = Vec::with_capacity(piece.len());
        for byte in piece {
            match byte {
                b'\r' => {}
                b'\n' => {
                    self.line_ends += 1;
                    self.is_spaced = false;
                }
                b' ' | b'\t' => self.is_spaced = true,
                byte => {
                    for _ in 0..std::mem::take(&mut self.line_ends) {
                        relaxed.extend_from_slice(b"\r\n");
                    }
                    if std::mem::take(&mut self.is_spaced) {
                        relaxed.push(b' ');
                    }
                    relaxed.push(*byte);
                    self.is_empty = false;
                }
            }
        }
        self.context.update(&relaxed);
    }

    fn finish(mut self) -> digest::Digest {
        if !self.is_empty {
            self.context.update(b"\r\n");
        }
        self.context.finish()
    }
}

impl Default for BodyHash {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyHash").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(body: &str) -> String {
        let mut hash = BodyHash::new();
        hash.update(body.as_bytes());
        BASE64_STANDARD.encode(hash.finish())
    }

    fn plain(body: &str) -> String {
        BASE64_STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes()))
    }

    /// Section 3.4.5.
    #[test]
    fn the_example_of_the_rfc_is_relaxed_as_it_says() {
        assert_eq!(relaxed("A", " X\r\n"), "a:X");
        assert_eq!(relaxed("B ", " Y\t\r\n\tZ  \r\n"), "b:Y Z");
        assert_eq!(hash(" C \r\nD \t E\r\n\r\n\r\n"), plain(" C\r\nD E\r\n"));
    }

    #[test]
    fn a_body_of_nothing_is_nothing_and_one_without_a_last_line_end_has_one() {
        for body in ["", "\r\n", " \t\r\n\r\n"] {
            assert_eq!(hash(body), plain(""), "{body:?}");
        }
        assert_eq!(hash("a"), plain("a\r\n"));
        assert_eq!(hash("\r\n\r\na"), plain("\r\n\r\na\r\n"));
    }

    #[test]
    fn it_does_not_matter_where_a_body_is_cut() {
        let body = "a  b\t\r\n \r\n\r\n  .\r\nc \r\n\r\n";
        for cut in 0..body.len() {
            let mut cut_up = BodyHash::new();
            cut_up.update(&body.as_bytes()[..cut]);
            cut_up.update(&body.as_bytes()[cut..]);
            assert_eq!(BASE64_STANDARD.encode(cut_up.finish()), hash(body), "{cut}");
        }
    }

    #[test]
    fn folded_fields_stay_together_and_the_last_of_a_name_counts() {
        let headers = "From: a\r\nTo: b,\r\n c,\r\n\td\r\nTO: e\r\n";
        let fields = fields(headers);
        assert_eq!(fields, [("From", " a\r\n"), ("To", " b,\r\n c,\r\n\td\r\n"), ("TO", " e\r\n")]);
        assert_eq!(last(&fields, "To"), Some(("TO", " e\r\n")));
        assert_eq!(last(&fields, "Cc"), None);
    }
}
