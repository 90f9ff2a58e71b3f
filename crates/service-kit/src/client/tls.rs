//! Certificates of a client: whom it trusts and what it shows, made again when the files change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::tls;

/// Whom to trust, and what to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// Trust these authorities (PEM) only; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain to show and its private key, both in PEM, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A file for TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {reason}", .path.display())]
pub struct ClientTlsError {
    /// Which one.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// The configuration made of the files as they were last. Also for clients of other protocols than HTTP.
#[derive(Debug)]
pub struct Renewing {
    tls: ClientTls,
    state: Mutex<Made>,
}

#[derive(Debug)]
struct Made {
    contents: Vec<Option<Vec<u8>>>,
    config: Arc<ClientConfig>,
    complaint: Option<String>,
}

// === impl Renewing ===

impl Renewing {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(tls: &ClientTls) -> Result<Self, ClientTlsError> {
        // First of all, so that a change in between is seen as one.
        let contents = tls.contents();
        let made = Made { contents, config: Arc::new(tls.config()?), complaint: None };
        Ok(Self { tls: tls.clone(), state: Mutex::new(made) })
    }

    /// For the next connection: of the files as they are now, or as they were when they could last be used.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut made = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = self.tls.contents();
        if contents != made.contents {
            match self.tls.config() {
                Ok(config) => {
                    *made = Made { contents, config: Arc::new(config), complaint: None };
                    tracing::info!("certificates for connections have changed and are read again");
                }
                Err(error) if made.complaint.as_ref() != Some(&error.to_string()) => {
                    tracing::warn!(%error, "certificates have changed and cannot be used; the previous ones stay in use");
                    made.complaint = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
        Arc::clone(&made.config)
    }
}

// === impl ClientTls ===

impl ClientTls {
    /// What is in the files; `None` for one that cannot be read now.
    fn contents(&self) -> Vec<Option<Vec<u8>>> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca_file.iter().chain(identity).map(|path| std::fs::read(path).ok()).collect()
    }

    fn config(&self) -> Result<ClientConfig, ClientTlsError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| refused(path, error.to_string()));
        let roots = match &self.ca_file {
            Some(path) => tls::authorities(&read(path)?).map_err(|reason| refused(path, reason))?,
            None => system_authorities(),
        };
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(roots);
        let Some((cert, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = tls::certificates(&read(cert)?).map_err(|reason| refused(cert, reason))?;
        let private = tls::private_key(&read(key)?).map_err(|reason| refused(key, reason))?;
        builder.with_client_auth_cert(chain, private).map_err(|error| refused(cert, error.to_string()))
    }
}

fn refused(path: &Path, reason: String) -> ClientTlsError {
    ClientTlsError { path: path.to_path_buf(), reason }
}

/// Whatever of the system's store makes sense.
fn system_authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}
