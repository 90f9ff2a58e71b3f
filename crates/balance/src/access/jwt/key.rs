//! A JSON Web Key (RFC 7517, 7518, 8037), and whether a signature is its.
//!
//! | `kty` | `crv` | its algorithm |
//! |---|---|---|
//! | `RSA`, 2048 to 8192 bits | | its `alg`, one of RS256 to RS512 and PS256 to PS512; RS256 when it has none |
//! | `EC` | `P-256`, `P-384`, `P-521` | ES256, ES384, ES512 |
//! | `OKP` | `Ed25519` | EdDSA |
//! | `oct`, at least as many bits as its hash has | | its `alg`, one of HS256 to HS512 |

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p521::ecdsa::{VerifyingKey as P521Key, signature::Verifier as _};
use ring::{
    hmac,
    signature::{self as rings, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm},
};
use serde_json::{Map, Value};

/// One key, for one algorithm.
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    /// As a token names it.
    algorithm: &'static str,
    verifier: Verifier,
}

enum Verifier {
    Rsa { parameters: &'static RsaParameters, n: Vec<u8>, e: Vec<u8> },
    Ring(UnparsedPublicKey<Vec<u8>>),
    P521(Box<P521Key>),
    Hmac(hmac::Key),
}

// === impl Key ===

impl Key {
    /// Reads one key of a set; `None` for one that is not for signatures, or not for any that is known here.
    pub(crate) fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let may_verify = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
        if text("use").is_some_and(|purpose| purpose != "sig")
            || !jwk.get("key_ops").and_then(Value::as_array).is_none_or(may_verify)
        {
            return None;
        }
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let (algorithm, verifier) = match text("kty")? {
            "RSA" => {
                let (algorithm, parameters) = rsa(text("alg").unwrap_or("RS256"))?;
                let n = without_leading_zeros(&bytes("n")?);
                // Below 2048 bits ring refuses every signature; say so when the key is read.
                (n.len() >= 256).then_some(())?;
                (algorithm, Verifier::Rsa { parameters, n, e: without_leading_zeros(&bytes("e")?) })
            }
            "EC" => ec(text("crv")?, &bytes("x")?, &bytes("y")?)?,
            "OKP" if text("crv") == Some("Ed25519") => {
                let key = bytes("x").filter(|key| key.len() == 32)?;
                ("EdDSA", Verifier::Ring(UnparsedPublicKey::new(&rings::ED25519, key)))
            }
            "oct" => hmac_of(text("alg")?, &bytes("k")?)?,
            _ => return None,
        };
        let is_its_own = |named: &str| named == algorithm || (named == "Ed25519" && algorithm == "EdDSA");
        text("alg").is_none_or(is_its_own).then(|| Self { id: text("kid").map(str::to_owned), algorithm, verifier })
    }

    /// Whether a token may name this algorithm for it; `Ed25519` is the newer name of `EdDSA` (RFC 9864).
    pub(crate) fn is_for(&self, algorithm: &str) -> bool {
        algorithm == self.algorithm || (self.algorithm == "EdDSA" && algorithm == "Ed25519")
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Rsa { parameters, n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            Verifier::Ring(key) => key.verify(message, signature).is_ok(),
            Verifier::P521(key) => p521::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn rsa(algorithm: &str) -> Option<(&'static str, &'static RsaParameters)> {
    Some(match algorithm {
        "RS256" => ("RS256", &rings::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => ("RS384", &rings::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => ("RS512", &rings::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => ("PS256", &rings::RSA_PSS_2048_8192_SHA256),
        "PS384" => ("PS384", &rings::RSA_PSS_2048_8192_SHA384),
        "PS512" => ("PS512", &rings::RSA_PSS_2048_8192_SHA512),
        _ => return None,
    })
}

fn ec(curve: &str, x: &[u8], y: &[u8]) -> Option<(&'static str, Verifier)> {
    let point = [&[4], x, y].concat();
    let of_ring = |algorithm: &'static dyn VerificationAlgorithm, point| UnparsedPublicKey::new(algorithm, point);
    match (curve, x.len(), y.len()) {
        ("P-256", 32, 32) => Some(("ES256", Verifier::Ring(of_ring(&rings::ECDSA_P256_SHA256_FIXED, point)))),
        ("P-384", 48, 48) => Some(("ES384", Verifier::Ring(of_ring(&rings::ECDSA_P384_SHA384_FIXED, point)))),
        ("P-521", 66, 66) => Some(("ES512", Verifier::P521(Box::new(P521Key::from_sec1_bytes(&point).ok()?)))),
        _ => None,
    }
}

/// RFC 7518, section 3.2: a secret is no shorter than the hash.
fn hmac_of(algorithm: &str, secret: &[u8]) -> Option<(&'static str, Verifier)> {
    let (name, hash, bytes_min) = match algorithm {
        "HS256" => ("HS256", hmac::HMAC_SHA256, 32),
        "HS384" => ("HS384", hmac::HMAC_SHA384, 48),
        "HS512" => ("HS512", hmac::HMAC_SHA512, 64),
        _ => return None,
    };
    (secret.len() >= bytes_min).then(|| (name, Verifier::Hmac(hmac::Key::new(hash, secret))))
}

fn without_leading_zeros(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(jwk: &str) -> Option<Key> {
        Key::read(serde_json::from_str::<Value>(jwk).unwrap().as_object().unwrap())
    }

    /// RFC 8037, appendix A.
    const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn a_signature_of_rfc_8037_is_its_keys_and_no_others() {
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = key(ED25519).unwrap();
        assert!(key.is_for("EdDSA") && key.is_for("Ed25519") && !key.is_for("HS256") && !key.is_for("none"));
        assert!(key.has_signed(message, &signature));
        assert!(!key.has_signed(&message[1..], &signature) && !key.has_signed(message, &signature[1..]));
        assert!(!key.has_signed(message, b""));
    }

    #[test]
    fn keys_for_something_else_or_too_weak_are_left_out() {
        let short = URL_SAFE_NO_PAD.encode([7; 31]);
        let small = URL_SAFE_NO_PAD.encode([7; 128]);
        for jwk in [
            ED25519.replace("}", r#","use":"enc"}"#),
            ED25519.replace("}", r#","key_ops":["sign"]}"#),
            ED25519.replace("}", r#","alg":"HS256"}"#),
            format!(r#"{{"kty":"oct","alg":"HS256","k":"{short}"}}"#),
            format!(r#"{{"kty":"oct","k":"{}"}}"#, URL_SAFE_NO_PAD.encode([7; 64])),
            format!(r#"{{"kty":"RSA","n":"{small}","e":"AQAB"}}"#),
            r#"{"kty":"RSA","alg":"none","n":"AQAB","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}"#.to_owned(),
            "{}".to_owned(),
        ] {
            assert!(key(&jwk).is_none(), "{jwk}");
        }
    }
}
