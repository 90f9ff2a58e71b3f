//! Signatures of the Standard Webhooks form, so that receivers can check them with a library in their language.
//!
//! | header | value |
//! |---|---|
//! | `webhook-id` | the event's id, the same at every attempt: what receivers drop duplicates by |
//! | `webhook-timestamp` | seconds since 1970, of this attempt: what receivers refuse old copies by |
//! | `webhook-signature` | `v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`, for each secret |
//!
//! Source: the Standard Webhooks specification, "Signature scheme". A secret is `whsec_` and the base64 of 24 to 64
//! bytes. While secrets are exchanged the file holds both, one on a line, and receivers of either find a signature of
//! theirs.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::hmac;
use service_kit::Secret;

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// The most secrets of one file.
const SECRETS_MAX: usize = 4;

/// The keys of one file.
#[derive(Clone)]
pub struct Signer(Vec<hmac::Key>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Reads a file with secrets, one on a line.
    ///
    /// # Errors
    /// Says what to write, without what is there.
    pub fn from_file(file: &Path) -> Result<Self, String> {
        let text = Secret::from_file(file).map_err(|error| format!("it cannot be read: {error}"))?;
        let lines: Vec<&str> = text.expose().lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if !(1..=SECRETS_MAX).contains(&lines.len()) {
            return Err("it holds 1 to 4 secrets, one on a line".to_owned());
        }
        lines.into_iter().map(key).collect::<Result<_, _>>().map(Self).map_err(str::to_owned)
    }

    /// The value of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let content = format!("{id}.{timestamp}.{body}");
        let sign = |key| format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(key, content.as_bytes())));
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn key(line: &str) -> Result<hmac::Key, &'static str> {
    const FORM: &str = "a secret is whsec_ and the base64 of 24 to 64 bytes; make one with: \
                        echo whsec_$(openssl rand -base64 32)";
    let bytes = line.strip_prefix(PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or(FORM)?;
    match (24..=64).contains(&bytes.len()) {
        true => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
        false => Err(FORM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(text: &str) -> Result<Signer, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, text).unwrap();
        Signer::from_file(&file)
    }

    #[test]
    fn a_signature_is_that_of_the_published_example() {
        let signed = |text: &str| {
            let signer = signer(text).unwrap();
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}")
        };
        let example = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), example);
        let both = signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx\n");
        assert!(both.starts_with(&format!("{example} v1,")) && !both.ends_with(example), "{both}");
    }

    #[test]
    fn a_file_without_a_secret_says_what_to_write_and_shows_none() {
        for bad in ["", "\n\n", "hunter2hunter2hunter2hunter2", "whsec_aHVudGVy", "whsec_*"] {
            let reason = signer(bad).unwrap_err();
            assert!(reason.contains("secret") && !reason.contains("hunter"), "{bad:?}: {reason}");
        }
        assert!(Signer::from_file(Path::new("/no/such/file")).unwrap_err().contains("cannot be read"));
    }
}
