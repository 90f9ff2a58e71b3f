//! The file: one token a line.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;

use super::Grant;

/// More tokens than a file should have.
const TOKENS_MAX: usize = 10_000;

/// The lines of a file.
///
/// Hashes are found by their first eight bytes and then compared as a whole in constant time. What the time of the
/// first step tells about a hash is of no use: a token cannot be chosen by its hash.
#[derive(Debug, Default)]
pub(crate) struct TokenFile {
    bearers: HashMap<[u8; 8], Vec<Bearer>>,
    signers: HashMap<String, (hmac::Key, Arc<Grant>)>,
    /// All of them, by what proves them.
    grants: HashMap<[u8; 32], Arc<Grant>>,
}

#[derive(Debug)]
struct Bearer {
    hash: [u8; 32],
    grant: Arc<Grant>,
}

/// What proves a name.
enum Proof {
    Sha256([u8; 32]),
    Hmac(hmac::Key),
}

// === impl TokenFile ===

impl TokenFile {
    /// Reads the file; the error names the line, never what is on it.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let mut this = Self::default();
        let mut names = HashSet::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |reason: &str| format!("line {}: {reason}", index + 1);
            let (grant, proof) = parse_line(line).map_err(|reason| at(&reason))?;
            if !names.insert(grant.name.clone()) {
                return Err(at(&format!("the name {} is taken; every token has its own", grant.name)));
            }
            if names.len() > TOKENS_MAX {
                return Err(format!("it has more than {TOKENS_MAX} tokens"));
            }
            this.add(grant, proof);
        }
        Ok(this)
    }

    /// Whose token this is.
    pub(crate) fn bearer(&self, token: &str) -> Option<Arc<Grant>> {
        let hash = sha256(token.as_bytes());
        let candidates = self.bearers.get(&hash[..8])?;
        let found = candidates.iter().find(|bearer| bool::from(bearer.hash.ct_eq(&hash)))?;
        Some(Arc::clone(&found.grant))
    }

    /// The key and the rights of the signer called `name`.
    pub(crate) fn signing(&self, name: &str) -> Option<(hmac::Key, Arc<Grant>)> {
        self.signers.get(name).map(|(key, grant)| (key.clone(), Arc::clone(grant)))
    }

    /// What the token or the key that `grant` was once given for may do now; `None` when it is not here any more.
    pub(crate) fn again(&self, grant: &Grant) -> Option<Arc<Grant>> {
        self.grants.get(&grant.proof).cloned()
    }

    fn add(&mut self, grant: Grant, proof: Proof) {
        let grant = Arc::new(grant);
        // Of a token that stands in two lines the first counts, as where it is looked up.
        self.grants.entry(grant.proof).or_insert_with(|| Arc::clone(&grant));
        match proof {
            Proof::Sha256(hash) => {
                let start = hash[..8].try_into().expect("a hash has more than eight bytes");
                self.bearers.entry(start).or_default().push(Bearer { hash, grant });
            }
            Proof::Hmac(key) => _ = self.signers.insert(grant.name.clone(), (key, grant)),
        }
    }
}

/// The SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn parse_line(line: &str) -> Result<(Grant, Proof), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, proof, scopes] = words[..] else {
        return Err("write NAME sha256:HASH SERVICE:ACTION,…, separated by spaces".to_owned());
    };
    if !is_token_name(name) {
        return Err("a name is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'".to_owned());
    }
    let scopes = scopes
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|error: super::ScopeError| error.to_string())?;
    let parsed = parse_proof(proof)?;
    let sum = match &parsed {
        Proof::Sha256(hash) => *hash,
        // Who signs says a name, too, so two may have one key.
        Proof::Hmac(_) => sha256(format!("{name} {proof}").as_bytes()),
    };
    Ok((Grant { name: name.to_owned(), scopes, proof: sum }, parsed))
}

/// Whether a token may be called so: it stands in logs and in headers.
pub(super) fn is_token_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn parse_proof(text: &str) -> Result<Proof, String> {
    let bytes = |hex: &str| -> Option<[u8; 32]> { hex::decode(hex).ok()?.try_into().ok() };
    let digits = "it has 64 hexadecimal digits";
    match text.split_once(':') {
        Some(("sha256", hash)) => bytes(hash).map(Proof::Sha256).ok_or_else(|| format!("the hash is wrong: {digits}")),
        Some(("hmac-sha256", key)) => bytes(key)
            .map(|key| Proof::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &key)))
            .ok_or_else(|| format!("the key is wrong: {digits}")),
        _ => Err("the second word starts with sha256: or hmac-sha256:".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Action;

    #[test]
    fn a_token_is_found_by_what_hashes_to_its_line() {
        let text = format!("# comment\n\n ci sha256:{} mail:register,*:read\n", hex::encode(sha256(b"hunter2")));
        let file = TokenFile::parse(text.as_bytes()).unwrap();
        let grant = file.bearer("hunter2").unwrap();
        assert_eq!(grant.name, "ci");
        assert!(grant.allows("mail", Action::Register) && !grant.allows("web", Action::Register));
        assert!(file.bearer("hunter3").is_none() && file.bearer("").is_none());
        assert!(file.signing("ci").is_none());
    }

    #[test]
    fn a_token_is_known_again_by_what_proves_it_and_not_by_its_name() {
        let line = |kind: &str, proof: &str, scope: &str| format!("ci {kind}:{proof} {scope}\n");
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        for kind in ["sha256", "hmac-sha256"] {
            let file = |text: String| TokenFile::parse(text.as_bytes()).unwrap();
            let before = file(line(kind, &one, "mail:read"));
            let grant = before.grants.values().next().unwrap();
            assert!(file(line(kind, &one, "web:read")).again(grant).unwrap().allows("web", Action::Read), "{kind}");
            assert!(file(line(kind, &other, "mail:read")).again(grant).is_none(), "{kind}: another one of that name");
            let twice = file(line(kind, &one, "mail:read") + &line(kind, &one, "*:*").replace("ci", "boss"));
            assert_eq!(twice.again(grant).unwrap().name, "ci", "{kind}: in two lines, the first");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_by_its_number_and_never_shown() {
        let hash = "ab".repeat(32);
        let good = format!("ok sha256:{hash} *:*\n");
        for (line, hint) in [
            ("secret".to_owned(), "line 2: write NAME"),
            (format!("a sha256:{hash}"), "line 2: write NAME"),
            (format!("a sha256:{hash} *:* more"), "line 2: write NAME"),
            ("a sha256:secret *:*".to_owned(), "64 hexadecimal digits"),
            (format!("a md5:{hash} *:*"), "starts with sha256:"),
            (format!("a sha256:{hash} mail"), "a scope is"),
            (format!("a\u{e4} sha256:{hash} *:*"), "a name is"),
            (format!("ok sha256:{hash} *:*"), "is taken"),
        ] {
            let error = TokenFile::parse(format!("{good}{line}").as_bytes()).unwrap_err();
            assert!(error.contains(hint) && !error.contains("secret"), "{line}: {error}");
        }
        assert!(TokenFile::parse(b"\xff").is_err());
    }
}
