//! DKIM (RFC 6376): a signature by which a receiver sees that a message is ours and was not changed.
//!
//! A relay usually signs; this is for those that do not. A key belongs to one domain, that of `From`, as DMARC wants it
//! (RFC 7489, section 3.1.1), and its public half is in the DNS at `SELECTOR._domainkey.DOMAIN`. Relaxed
//! canonicalisation survives relays that fold lines differently.
//!
//! *What is signed:* the body, and every header that readers or their programs act on ([`SIGNED`]); for
//! List-Unsubscribe and List-Unsubscribe-Post, RFC 8058, section 4, demands it. A header is *oversigned* when its name
//! is in `h=` once more than in the message: one that is added on the way then breaks the signature (RFC 6376, section
//! 8.15). Which ones, and how, is what rspamd does by default: those that readers see, always; the others when they are
//! there, because mailing lists may add them to what never had them.
//!
//! | key file | made by |
//! |---|---|
//! | PEM, `BEGIN PRIVATE KEY` (PKCS #8): RSA or Ed25519 | `openssl genpkey -algorithm ed25519`, or `RSA` |
//! | PEM, `BEGIN RSA PRIVATE KEY` (PKCS #1) | `openssl genrsa -traditional 2048` |
//! | the 32 bytes of an Ed25519 key in base64 (RFC 8463) | others |
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
use rustls_pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use service_kit::{Secret, time::UnixMillis};

/// When a header is listed once more than it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversigned {
    /// Also when it is not there at all.
    Always,
    /// When it is there.
    IfPresent,
}

/// What is signed, in this order.
pub const SIGNED: [(&str, Oversigned); 14] = [
    ("From", Oversigned::Always),
    ("To", Oversigned::Always),
    ("Cc", Oversigned::Always),
    ("Reply-To", Oversigned::Always),
    ("Subject", Oversigned::Always),
    ("Date", Oversigned::IfPresent),
    ("Message-ID", Oversigned::IfPresent),
    ("In-Reply-To", Oversigned::IfPresent),
    ("References", Oversigned::IfPresent),
    ("MIME-Version", Oversigned::IfPresent),
    ("Content-Type", Oversigned::IfPresent),
    ("Content-Transfer-Encoding", Oversigned::IfPresent),
    ("List-Unsubscribe", Oversigned::IfPresent),
    ("List-Unsubscribe-Post", Oversigned::IfPresent),
];

/// Characters of a signature on one line, so that no line is longer than 78 (RFC 5322, section 2.1.1).
const LINE_CHARS: usize = 72;

/// The key of each domain. The first of a domain counts.
#[derive(Debug, Default)]
pub struct Keys(Vec<Dkim>);

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

// === impl Keys ===

impl Keys {
    /// Of these.
    #[must_use]
    pub fn new(keys: Vec<Dkim>) -> Self {
        Self(keys)
    }

    /// The one for messages from `domain`, if there is one.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<&Dkim> {
        self.0.iter().find(|key| key.domain.eq_ignore_ascii_case(domain))
    }
}

// === impl Dkim ===

impl Dkim {
    /// Reads the key from `file`.
    ///
    /// # Errors
    /// Says what to change.
    pub fn new(domain: &str, selector: &str, file: &Path) -> Result<Self, String> {
        let text = Secret::from_file(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let key = Key::parse(text.expose()).map_err(|reason| format!("{}: {reason}", file.display()))?;
        Ok(Self { domain: domain.to_owned(), selector: selector.to_owned(), key })
    }

    /// The `DKIM-Signature` header of a message with these headers (lines that end with CR LF) and a body of this hash.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign(&self, headers: &str, body: BodyHash, at: UnixMillis) -> Result<String, ring::error::Unspecified> {
        let (names, mut text) = signed(&fields(headers));
        let unsigned = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed; q=dns/txt;\r\n d={}; s={}; t={};\r\n h={};\r\n bh={};\r\n b=",
            self.key.algorithm(),
            self.domain,
            self.selector,
            at.0 / 1000,
            listed(&names),
            BASE64_STANDARD.encode(body.finish()),
        );
        let (name, value) = unsigned.split_once(':').unwrap_or_default();
        // Its own signature is left empty, and no line end follows (section 3.7).
        text.push_str(&relaxed(name, value));
        let signature = BASE64_STANDARD.encode(self.key.sign(text.as_bytes())?);
        let (first, rest) = signature.split_at(LINE_CHARS.min(signature.len()));
        let rest = rest.as_bytes().chunks(LINE_CHARS).map(String::from_utf8_lossy);
        Ok(rest.fold(unsigned + first, |header, line| header + "\r\n " + &line) + "\r\n")
    }
}

/// The names for `h=`, and what of the headers is signed. Of several with one name the last comes first (section
/// 5.4.2); what is listed and not there adds nothing.
fn signed(fields: &[(&str, &str)]) -> (Vec<&'static str>, String) {
    let mut names = Vec::new();
    let mut text = String::new();
    for (name, oversigned) in SIGNED {
        let before = names.len();
        for (found, value) in fields.iter().rev().filter(|(found, _)| found.trim_end().eq_ignore_ascii_case(name)) {
            names.push(name);
            text.push_str(&(relaxed(found, value) + "\r\n"));
        }
        if names.len() > before || oversigned == Oversigned::Always {
            names.push(name);
        }
    }
    (names, text)
}

/// The names with colons between them, on as many lines as it takes.
fn listed(names: &[&str]) -> String {
    let mut list = String::new();
    let mut line_chars = " h=".len();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            list.push(':');
            line_chars += 1;
        }
        if index > 0 && line_chars + name.len() > LINE_CHARS {
            list.push_str("\r\n  ");
            line_chars = 2;
        }
        list.push_str(name);
        line_chars += name.len();
    }
    list
}

/// Without the key.
impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dkim").field("domain", &self.domain).field("selector", &self.selector).finish_non_exhaustive()
    }
}

// === impl Key ===

impl Key {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const RSA: &str = "its RSA key cannot be used; it must have 2048 to 4096 bits";
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("its key is encrypted; write it without a passphrase: openssl pkey -in FILE -out FILE");
        }
        if text.contains("BEGIN RSA PRIVATE KEY") {
            return pkcs1(text).ok_or(RSA);
        }
        if text.contains("BEGIN PRIVATE KEY") {
            return pkcs8(text)
                .ok_or("its key is neither Ed25519 nor RSA of 2048 to 4096 bits, the ones that DKIM knows");
        }
        if text.contains("-----BEGIN") {
            return Err(
                "it holds no private key of RSA or Ed25519 (PEM, \"BEGIN PRIVATE KEY\" or \"BEGIN RSA PRIVATE KEY\")",
            );
        }
        ed25519(text).ok_or(
            "it holds neither a private key in PEM (\"BEGIN PRIVATE KEY\", \"BEGIN RSA PRIVATE KEY\") nor 32 bytes of \
             Ed25519 in base64",
        )
    }

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

fn pkcs1(pem: &str) -> Option<Key> {
    let der = PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(|key| Key::Rsa(Box::new(key)))
}

fn pkcs8(pem: &str) -> Option<Key> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let der = der.secret_pkcs8_der();
    // openssl writes no public half into it, which ring would otherwise ask for.
    let ed25519 = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Key::Ed25519);
    ed25519.or_else(|_| RsaKeyPair::from_pkcs8(der).map(|key| Key::Rsa(Box::new(key)))).ok()
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
    fn folded_fields_stay_together_and_those_of_one_name_are_signed_from_the_last() {
        let headers = "From: a\r\nTo: b,\r\n c,\r\n\td\r\nTO: e\r\n";
        let fields = fields(headers);
        assert_eq!(fields, [("From", " a\r\n"), ("To", " b,\r\n c,\r\n\td\r\n"), ("TO", " e\r\n")]);
        let (names, text) = signed(&fields);
        assert_eq!(names, ["From", "From", "To", "To", "To", "Cc", "Reply-To", "Subject"]);
        assert_eq!(text, "from:a\r\nto:e\r\nto:b, c, d\r\n");
    }

    #[test]
    fn a_list_of_names_is_folded() {
        let names: Vec<&str> = SIGNED.iter().flat_map(|(name, _)| [*name, *name]).collect();
        let list = listed(&names);
        assert!(list.split("\r\n").all(|line| line.len() <= 78), "{list}");
        assert_eq!(list.replace("\r\n  ", ""), names.join(":"));
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_with_the_reason() {
        for (text, reason) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
            ("-----BEGIN EC PRIVATE KEY-----\n", "RSA or Ed25519"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "neither Ed25519 nor RSA"),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "2048 to 4096"),
            ("hello", "neither a private key in PEM"),
        ] {
            assert!(Key::parse(text).err().is_some_and(|error| error.contains(reason)), "{text}");
        }
    }
}
