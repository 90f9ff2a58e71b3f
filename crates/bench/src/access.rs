//! What the gateway asks of clients (doc/access.md): a service for each kind of it, and the request that passes.
//!
//! All are services of one gateway, so that two rows differ in the policy and in what the client sends, and in nothing
//! else. The credentials are fixed texts: nothing here has to make keys, sign, or hash.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use crate::shape::SHAPES;

/// A kind of what is asked.
#[derive(Debug, Clone)]
pub struct Feature {
    /// As the table calls it.
    pub name: &'static str,
    /// The service that asks it; all have names of the same length.
    pub service: String,
    /// That service's policy; `None`: everything off.
    pub policy: Option<Value>,
    /// The lines of a request's head that let it pass, each with its end.
    pub fields: String,
    /// What it may cost at most, in microseconds of processor time a request; `None`: it is printed, no more.
    pub aim_us: Option<f64>,
}

/// The service that is asked where a policy says `forward`. It lets everything pass.
pub const JUDGE: &str = "judge";
/// The hash of the one API key: `printf %s KEY | sha256sum`.
pub const KEY_SHA256: &str = "950bd45b63d4093f8a7466712ce04504c479557d3fce6b720d2c9fd975b94c1a";

/// The API key: `muster_` and 43 characters, like a real one.
const KEY: &str = "muster_Zm9yLXRoZS1wZXJmb3JtYW5jZS1iZW5jaC1vbmx5LTAwMDE";
/// `printf ann:bench-password | base64`.
const NAME_AND_PASSWORD: &str = "YW5uOmJlbmNoLXBhc3N3b3Jk";
/// Of that password, with cost 12, as `htpasswd -nBC 12 ann` makes one.
const PASSWORD_BCRYPT: &str = "$2b$12$PerformanceBenchmark1uN7QmXmfT6U9IQK21PFvgj34WzUfLIg6";
/// Both good until the year 2100, and signed with keys that were thrown away; their public halves are [`JWKS`].
const TOKEN_ES256: &str = include_str!("../configs/access-es256.jwt");
const TOKEN_RS256: &str = include_str!("../configs/access-rs256.jwt");
const JWKS: &str = include_str!("../configs/access-jwks.json");
/// What one kind may cost, in microseconds.
const AIM_US: f64 = 5.0;

/// The kind whose requests of one name are also measured at [`PASSWORDS_PER_SECOND`].
pub const PASSWORD: &str = "name and password (bcrypt, cost 12), seen before";
/// So many requests of one name may cost at most two hundredths more than without a password.
pub const PASSWORDS_PER_SECOND: f64 = 2_000.0;

/// The kinds; the first is none of them. Writes the key set that their policies name into `folder`.
///
/// # Errors
///
/// `folder` cannot be written.
pub fn features(folder: &Path) -> io::Result<Vec<Feature>> {
    let jwks_file = folder.join("access-jwks.json");
    fs::write(&jwks_file, JWKS)?;
    let off = Feature { policy: None, aim_us: None, ..feature("everything off", Value::Null, String::new()) };
    let asked = json!({ "auth": { "forward": { "service": JUDGE, "path": "/verify" } } });
    let asked = Feature { aim_us: None, ..feature("a service that is asked", asked, String::new()) };
    let mut features = vec![off];
    features.extend(credentials(&jwks_file));
    features.extend(limits());
    features.push(asked);
    for (number, feature) in features.iter_mut().enumerate() {
        feature.service = format!("row{number:02}");
    }
    Ok(features)
}

fn credentials(jwks_file: &Path) -> [Feature; 4] {
    let keys = json!({ "auth": { "keys": { "header": "x-api-key" } } });
    let issuer = "https://id.example";
    let jwt = json!({ "auth": { "jwt": { "issuer": issuer, "audiences": ["bench"], "jwks_file": jwks_file } } });
    let basic = json!({ "auth": { "basic": { "users": { "ann": PASSWORD_BCRYPT } } } });
    let bearer = |token: &str| format!("Authorization: Bearer {}\r\n", token.trim_end());
    let password = format!("Authorization: Basic {NAME_AND_PASSWORD}\r\n");
    [
        feature("API key", keys, format!("X-Api-Key: {KEY}\r\n")),
        feature("token (ES256), seen before", jwt.clone(), bearer(TOKEN_ES256)),
        feature("token (RS256), seen before", jwt, bearer(TOKEN_RS256)),
        feature(PASSWORD, basic, password),
    ]
}

fn limits() -> [Feature; 4] {
    let often = json!({ "rate_limit": [{ "key": "client", "requests": 1_000_000 }] });
    let allow = ["10.0.0.0/8", "127.0.0.0/8"];
    let networks = json!({ "auth": { "networks": { "allow": allow, "deny": ["192.0.2.0/24"] } } });
    let cors = json!({ "cors": { "origins": ["https://app.example"], "applies_to": "service" } });
    [
        feature("rate limit of a client's network", often, String::new()),
        feature("requests of a client under way", json!({ "in_flight_per_client": 1000 }), String::new()),
        feature("client networks", networks, String::new()),
        feature("CORS, a simple request", cors, "Origin: https://app.example\r\n".to_owned()),
    ]
}

fn feature(name: &'static str, policy: Value, fields: String) -> Feature {
    Feature { name, service: String::new(), policy: Some(policy), fields, aim_us: Some(AIM_US) }
}

// === impl Feature ===

impl Feature {
    /// A small GET that passes, as bytes.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        SHAPES[0].request_to(&self.service, &self.fields)
    }
}

#[cfg(test)]
mod tests {
    use discovery::policy::PolicyDocument;

    use super::*;

    #[test]
    fn every_policy_is_one_that_the_gateway_takes_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for feature in features(folder.path()).unwrap() {
            let Some(policy) = feature.policy else { continue };
            let read = PolicyDocument::parse(policy.to_string().as_bytes());
            assert!(read.is_ok(), "{}: {read:?}", feature.name);
        }
    }

    #[test]
    fn a_request_goes_to_the_service_and_has_what_lets_it_pass() {
        let folder = tempfile::tempdir().unwrap();
        let key = &features(folder.path()).unwrap()[1];
        let request = String::from_utf8(key.request()).unwrap();
        assert!(request.starts_with("GET /row01/ HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(&format!("\r\nX-Api-Key: {KEY}\r\n\r\n")), "{request}");
    }
}
