//! TLS on the server's side: certificates from files, renewed without a restart.
//!
//! With a certificate and its key a service speaks https and nothing else. With an authority for clients, a client must
//! show a certificate that the authority signed (mTLS), or there is no conversation; what it may do is still for its
//! token to say. TLS 1.2 and 1.3 by rustls with ring. Certificates are read again when their files change; connections
//! that are open keep theirs.

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

use crate::reload::{ReloadError, Reloaded};

/// HTTP/1.1 and HTTP/2 in the words of ALPN.
const HTTP1: &[u8] = b"http/1.1";
pub(crate) const HTTP2: &[u8] = b"h2";

/// Where the certificates are. Flatten it into a service's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct TlsOptions {
    /// Certificate chain (PEM), the own one first: only https is served then. Read again when it changes.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Certificate authority (PEM) that clients must have a certificate of (mTLS).
    #[arg(long, env = "TLS_CLIENT_CA_FILE", value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
}

/// The certificates in force. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls(Reloaded<Configs>);

/// The same certificates, by what clients are offered (ALPN, RFC 7301).
#[derive(Debug)]
struct Configs {
    http1: Arc<ServerConfig>,
    /// HTTP/2 first.
    http2: Arc<ServerConfig>,
}

// === impl TlsOptions ===

impl TlsOptions {
    /// What no single option can see.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            let reason = "--tls-cert-file and --tls-key-file belong together; one of them is missing";
            mistakes.push(reason.to_owned());
        }
        if self.tls_client_ca_file.is_some() && self.tls_cert_file.is_none() {
            mistakes.push(
                "--tls-client-ca-file needs --tls-cert-file: without TLS no client shows a certificate".to_owned(),
            );
        }
        mistakes
    }

    /// Whether https is spoken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.tls_cert_file.is_some()
    }

    /// Reads the files, now and whenever they change; `None` for plain HTTP.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or key that fits.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn load(&self) -> Result<Option<Tls>, ReloadError> {
        let (Some(cert), Some(key)) = (&self.tls_cert_file, &self.tls_key_file) else { return Ok(None) };
        let files = [cert, key].into_iter().chain(&self.tls_client_ca_file).cloned().collect();
        let parse = |contents: &[Vec<u8>]| match contents {
            [cert, key] => server_config(cert, key, None).map(Configs::of),
            [cert, key, ca, ..] => server_config(cert, key, Some(ca)).map(Configs::of),
            _ => Err("a file is missing".to_owned()),
        };
        Reloaded::follow("certificates", files, parse).map(|config| Some(Tls(config)))
    }
}

// === impl Tls ===

impl Tls {
    /// Does the server's part of handshakes from now on; clients that can speak HTTP/2 are to do so, `with_http2`.
    pub(crate) fn acceptor(&self, with_http2: bool) -> TlsAcceptor {
        let configs = self.0.get();
        TlsAcceptor::from(Arc::clone(if with_http2 { &configs.http2 } else { &configs.http1 }))
    }
}

// === impl Configs ===

impl Configs {
    fn of(http1: ServerConfig) -> Self {
        let mut http2 = http1.clone();
        http2.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Self { http1: Arc::new(http1), http2: Arc::new(http2) }
    }
}

/// ring, whatever else is linked.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Every certificate in a PEM file; at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("it holds no certificate (PEM)".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("its certificates cannot be read: {error}")),
    }
}

/// The private key in a PEM file.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("the private key cannot be read: {error}"))
}

/// The authorities in a PEM file.
pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|error| format!("invalid certificate authority: {error}"))?;
    }
    Ok(store)
}

fn server_config(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(pem)?), provider());
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(cert)?, private_key(key)?)
        .map_err(|error| format!("certificate and key do not fit: {error}"))?;
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(config)
}
