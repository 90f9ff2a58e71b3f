//! How an instance proves to a registry that it may announce itself.

use std::{io, path::PathBuf};

use service_kit::{Secret, signature::SigningKey};

/// A token, or a key to sign with; none for a registry that asks for none.
///
/// The file is read for every heartbeat, so that a renewed token counts at once: one small file every two seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct Credentials {
    /// A file with the API token that the registry asks for.
    #[arg(long, env = "REGISTRY_TOKEN_FILE", value_name = "FILE", conflicts_with = "registry_key_file")]
    pub registry_token_file: Option<PathBuf>,
    /// A file with NAME:KEY to sign requests to the registry with, instead of a token.
    #[arg(long, env = "REGISTRY_KEY_FILE", value_name = "FILE")]
    pub registry_key_file: Option<PathBuf>,
}

// === impl Credentials ===

impl Credentials {
    /// The value of `Authorization` for one request, if there is to be one.
    pub(crate) fn authorization(&self, method: &str, target: &str, body: &[u8]) -> Result<Option<String>, Unreadable> {
        if let Some(path) = &self.registry_token_file {
            let token = Secret::from_file(path).map_err(|source| Unreadable { path: path.clone(), source })?;
            return Ok(Some(format!("Bearer {}", token.expose().trim())));
        }
        let Some(path) = &self.registry_key_file else { return Ok(None) };
        let key = SigningKey::from_file(path).map_err(|source| Unreadable { path: path.clone(), source })?;
        Ok(Some(key.authorization(method, target, body)))
    }
}

/// A file with a token or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}", .path.display())]
pub struct Unreadable {
    /// Which one.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_token_counts_for_the_next_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let credentials = Credentials { registry_token_file: Some(path.clone()), registry_key_file: None };
        let header = || credentials.authorization("PUT", "/", b"");
        assert!(header().is_err(), "there is no file");
        for token in ["muster_1", "muster_2"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(header().unwrap().unwrap(), format!("Bearer {token}"));
        }
        assert!(Credentials::default().authorization("PUT", "/", b"").unwrap().is_none());
    }
}
