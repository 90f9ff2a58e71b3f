//! DKIM (RFC 6376): a signature by which a receiver sees that a message is ours and was not changed.
//!
//! A relay usually signs; this is for those that do not. The key is an RSA or Ed25519 private key in PEM (PKCS #1 for RSA;
//! for Ed25519 its 32 bytes in base64), and its public half is in the DNS at `SELECTOR._domainkey.DOMAIN`. Signed are the
//! headers that readers see, and the body; relaxed canonicalisation survives relays that fold lines differently.

use std::{fmt, path::Path};

use lettre::message::{
    dkim::{DkimCanonicalization, DkimCanonicalizationType, DkimConfig, DkimSigningAlgorithm, DkimSigningKey},
    header::HeaderName,
};
use service_kit::Secret;

/// What is signed.
const HEADERS: [HeaderName; 7] = [
    HeaderName::new_from_ascii_str("From"),
    HeaderName::new_from_ascii_str("To"),
    HeaderName::new_from_ascii_str("Cc"),
    HeaderName::new_from_ascii_str("Reply-To"),
    HeaderName::new_from_ascii_str("Subject"),
    HeaderName::new_from_ascii_str("Date"),
    HeaderName::new_from_ascii_str("Message-ID"),
];

/// Signs messages.
pub struct Dkim(DkimConfig);

impl Dkim {
    /// Reads the key from `file`.
    ///
    /// # Errors
    /// Says what to change.
    pub fn new(domain: &str, selector: &str, file: &Path) -> Result<Self, String> {
        let key = Secret::from_file(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let algorithm = match key.expose().contains("RSA PRIVATE KEY") {
            true => DkimSigningAlgorithm::Rsa,
            false => DkimSigningAlgorithm::Ed25519,
        };
        let key = DkimSigningKey::new(key.expose(), algorithm).map_err(|_| {
            "it holds neither an RSA key (PEM, \"BEGIN RSA PRIVATE KEY\") nor 32 bytes of Ed25519 in base64".to_owned()
        })?;
        let relaxed = || DkimCanonicalizationType::Relaxed;
        let canonicalization = DkimCanonicalization { header: relaxed(), body: relaxed() };
        Ok(Self(DkimConfig::new(selector.to_owned(), domain.to_owned(), key, HEADERS.to_vec(), canonicalization)))
    }

    /// Adds the `DKIM-Signature` header.
    pub fn sign(&self, message: &mut lettre::Message) {
        message.sign(&self.0);
    }
}

/// Without the key.
impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dkim").finish_non_exhaustive()
    }
}
