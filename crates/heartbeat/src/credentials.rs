//! How an instance proves to a registry that it may announce itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    body::Bytes,
    http::{HeaderValue, Request, header::AUTHORIZATION},
};
use service_kit::{
    Secret,
    client::{ClientTls, ClientTlsError, Connector, HttpClient},
    signature::SigningKey,
};

/// A token, or a key to sign with; none for a registry that asks for none.
///
/// The token or key is read for every heartbeat, so that a renewed one counts at once: one small file every two
/// seconds. Certificates are read for every connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct Credentials {
    /// A file with the API token that the registry asks for.
    #[arg(long, env = "REGISTRY_TOKEN_FILE", value_name = "FILE", conflicts_with = "registry_key_file")]
    pub registry_token_file: Option<PathBuf>,
    /// A file with NAME:KEY to sign requests to the registry with, instead of a token.
    #[arg(long, env = "REGISTRY_KEY_FILE", value_name = "FILE")]
    pub registry_key_file: Option<PathBuf>,
    /// The certificate authority (PEM) to trust for https registries. Default: those of the system.
    #[arg(long, env = "REGISTRY_CA_FILE", value_name = "FILE")]
    pub registry_ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) to show to registries that ask for one.
    #[arg(long, env = "REGISTRY_CERT_FILE", value_name = "FILE", requires = "registry_cert_key_file")]
    pub registry_cert_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate.
    #[arg(long, env = "REGISTRY_CERT_KEY_FILE", value_name = "FILE", requires = "registry_cert_file")]
    pub registry_cert_key_file: Option<PathBuf>,
}

// === impl Credentials ===

impl Credentials {
    /// What sends requests; `is_tls`: there are https registries.
    pub(crate) fn client(&self, is_tls: bool) -> Result<HttpClient, Arc<Unreadable>> {
        if !is_tls {
            return Ok(HttpClient::plain());
        }
        HttpClient::new(&self.tls())
            .map_err(|ClientTlsError { path, reason }| unreadable(&path, io::Error::other(reason)))
    }

    /// What opens connections for HTTP/2.
    pub(crate) fn http2_connector(&self, is_tls: bool) -> Result<Connector, Arc<Unreadable>> {
        let tls = is_tls.then(|| self.tls());
        Connector::http2(tls.as_ref())
            .map_err(|ClientTlsError { path, reason }| unreadable(&path, io::Error::other(reason)))
    }

    /// The token for a stream of heartbeats, as the field `Authorization`.
    pub(crate) fn bearer(&self) -> Result<Option<HeaderValue>, Arc<Unreadable>> {
        match &self.registry_key_file {
            Some(path) => {
                let what = "a key signs requests over HTTP, and no stream; give a token to grpc:// registries";
                Err(unreadable(path, io::Error::other(what)))
            }
            None => self.token(),
        }
    }

    fn token(&self) -> Result<Option<HeaderValue>, Arc<Unreadable>> {
        let Some(path) = &self.registry_token_file else { return Ok(None) };
        let token = Secret::from_file(path).map_err(|source| unreadable(path, source))?;
        // A token with a line break in it is no token that a registry would take.
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()));
        Ok(Some(value.unwrap_or(HeaderValue::from_static("Bearer"))))
    }

    fn tls(&self) -> ClientTls {
        let identity = self.registry_cert_file.clone().zip(self.registry_cert_key_file.clone());
        ClientTls { ca_file: self.registry_ca_file.clone(), identity }
    }

    /// Adds the token or the signature to a request that is complete otherwise: a field that is set later is not
    /// signed.
    pub(crate) fn prove(&self, request: &mut Request<Bytes>) -> Result<(), Arc<Unreadable>> {
        if let Some(value) = self.token()? {
            request.headers_mut().insert(AUTHORIZATION, value);
        } else if let Some(path) = &self.registry_key_file {
            SigningKey::from_file(path).map_err(|source| unreadable(path, source))?.sign(request);
        }
        Ok(())
    }
}

fn unreadable(path: &Path, source: io::Error) -> Arc<Unreadable> {
    Arc::new(Unreadable { path: path.to_owned(), source })
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
        let credentials = Credentials { registry_token_file: Some(path.clone()), ..Credentials::default() };
        let header = || {
            let mut request = Request::new(Bytes::new());
            credentials.prove(&mut request).map(|()| request.headers()[AUTHORIZATION].to_str().unwrap().to_owned())
        };
        assert!(header().is_err(), "there is no file");
        for token in ["muster_1", "muster_2"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(header().unwrap(), format!("Bearer {token}"));
        }
        let mut open = Request::new(Bytes::new());
        Credentials::default().prove(&mut open).unwrap();
        assert!(open.headers().is_empty());
    }
}
