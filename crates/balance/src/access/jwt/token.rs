//! A token: three parts, two JSON objects, one signature (RFC 7515, section 7.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::access::jwt::{json, key_set::Keys};

/// The largest token. A header of a client is not much larger as a whole.
pub(crate) const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// Members of a header that bring or name a key of the token's own, or ask for what is not known here.
const REFUSED: [&str; 6] = ["crit", "jku", "jwk", "x5c", "x5u", "b64"];

/// What the name of a kind of token ends with (RFC 8725, section 3.11), and the one kind that is for access (RFC 9068).
const KIND_SUFFIX: &str = "+jwt";
const ACCESS_TOKEN: &str = "at+jwt";

/// What has become of a token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Signed by a key of the set: what it claims.
    Signed(Map<String, Value>),
    /// It names a key that is not in the set, which may have become older than the key.
    UnknownKey,
    /// What is wrong with it.
    Invalid(&'static str),
}

/// Reads a token, and checks its signature with `keys`.
pub(crate) fn verify(token: &[u8], keys: &Keys) -> Outcome {
    match verified(token, keys) {
        Ok(claims) => Outcome::Signed(claims),
        Err(outcome) => outcome,
    }
}

fn verified(token: &[u8], keys: &Keys) -> Result<Map<String, Value>, Outcome> {
    let invalid = Outcome::Invalid;
    if token.len() > TOKEN_MAX_BYTES {
        return Err(invalid("the token is larger than 8 KiB"));
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid("the token is no signed JWT of three parts"));
    };
    let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid("the token is not base64url"));
    let not_unique = || invalid("a part of the token is no JSON object, or has a member twice");
    let head = json::object(&decode(header)?).ok_or_else(not_unique)?;
    if REFUSED.iter().any(|name| head.contains_key(*name)) {
        return Err(invalid("the token's header brings a key of its own, or asks for what is not supported"));
    }
    if let Some(kind) = head.get("typ")
        && !kind.as_str().is_some_and(may_let_in)
    {
        return Err(invalid("the token is of a kind that is not for access"));
    }
    let Some(algorithm) = head.get("alg").and_then(Value::as_str) else {
        return Err(invalid("the token names no algorithm"));
    };
    let id = match head.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err(invalid("the token's key id is no text")),
    };
    let mut named = keys.named(id).peekable();
    named.peek().ok_or(Outcome::UnknownKey)?;
    let mut fitting = named.filter(|key| key.is_for(algorithm)).peekable();
    if fitting.peek().is_none() {
        return Err(invalid("the token names an algorithm that is not its key's"));
    }
    let message = &token[..header.len() + 1 + payload.len()];
    let signature = decode(signature)?;
    if !fitting.any(|key| key.has_signed(message, &signature)) {
        return Err(invalid("the token's signature does not hold"));
    }
    json::object(&decode(payload)?).ok_or_else(not_unique)
}

/// Whether a token with this `typ` may be for access. Many issuers write `JWT` or nothing, and some a word of their
/// own; what ends in `+jwt` names a kind that is defined, as `logout+jwt`, `dpop+jwt` or `secevent+jwt`, and is used
/// for nothing else.
fn may_let_in(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    !kind.ends_with(KIND_SUFFIX) || kind == ACCESS_TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_a_kind_that_is_for_something_else_is_refused() {
        for kind in ["JWT", "jwt", "application/jwt", "at+jwt", "application/at+JWT", "JOSE", "acme-access", ""] {
            assert!(may_let_in(kind), "{kind}");
        }
        for kind in
            ["dpop+jwt", "logout+jwt", "application/secevent+jwt", "Logout+JWT", "kb+jwt", "oauth-authz-req+jwt"]
        {
            assert!(!may_let_in(kind), "{kind}");
        }
    }

    #[test]
    fn of_several_keys_with_the_same_id_the_one_that_fits_counts() {
        let secret = |byte: u8| URL_SAFE_NO_PAD.encode([byte; 32]);
        let jwk = |byte: u8| format!(r#"{{"kty":"oct","alg":"HS256","kid":"a","k":"{}"}}"#, secret(byte));
        // Another algorithm, another key, and the one that has signed.
        let ed25519 = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let set = format!(r#"{{"keys":[{ed25519},{},{}]}}"#, jwk(1), jwk(2));
        let keys = Keys::read(set.as_bytes()).unwrap();
        let signed_by = |byte: u8| {
            let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
            let message = format!("{}.{}", part(r#"{"alg":"HS256","kid":"a"}"#), part(r#"{"sub":"ann"}"#));
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[byte; 32]);
            let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
            format!("{message}.{signature}")
        };
        for byte in [1, 2] {
            assert!(matches!(verify(signed_by(byte).as_bytes(), &keys), Outcome::Signed(_)), "{byte}");
        }
        assert!(matches!(verify(signed_by(3).as_bytes(), &keys), Outcome::Invalid(_)));
    }
}
