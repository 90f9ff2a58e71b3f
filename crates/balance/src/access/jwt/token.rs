//! A token: three parts, two JSON objects, one signature (RFC 7515, section 7.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::access::jwt::{json, key_set::Keys};

/// The largest token. A header of a client is not much larger as a whole.
pub(crate) const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// Members of a header that bring or name a key of the token's own, or ask for what is not known here.
const REFUSED: [&str; 6] = ["crit", "jku", "jwk", "x5c", "x5u", "b64"];

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
    let Some(algorithm) = head.get("alg").and_then(Value::as_str) else {
        return Err(invalid("the token names no algorithm"));
    };
    let id = match head.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err(invalid("the token's key id is no text")),
    };
    let key = keys.find(id).ok_or(Outcome::UnknownKey)?;
    if !key.is_for(algorithm) {
        return Err(invalid("the token names an algorithm that is not its key's"));
    }
    let message = &token[..header.len() + 1 + payload.len()];
    if !key.has_signed(message, &decode(signature)?) {
        return Err(invalid("the token's signature does not hold"));
    }
    json::object(&decode(payload)?).ok_or_else(not_unique)
}
