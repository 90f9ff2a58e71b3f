//! TLS below the conversation: whom to trust, and the handshake.
//!
//! rustls with ring, TLS 1.2 and 1.3. The certificate must be for the configured host, by an authority of the system,
//! or of `--smtp-ca-file` and then by no other. That file is read again for every connection, so that a renewed one
//! counts.

use std::{fmt, path::Path};

use service_kit::client::{ClientTls, Renewing};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::channel::Stream;
use crate::transport::outcome::DeliveryError;

/// See the module.
pub struct Tls {
    name: ServerName<'static>,
    config: Renewing,
}

impl Tls {
    /// For a server whose certificate must be for `host`.
    ///
    /// # Errors
    /// The file of authorities cannot be used, or there can be no certificate for `host`. Says what to change.
    pub fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            "the host is neither a DNS name nor an IP address, so no certificate can be for it".to_owned()
        })?;
        let files = ClientTls { ca_file: ca_file.map(Path::to_path_buf), identity: None };
        let config = Renewing::new(&files).map_err(|error| error.to_string())?;
        Ok(Self { name, config })
    }

    /// Encrypts `stream`.
    pub(super) async fn handshake(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, DeliveryError> {
        let connector = TlsConnector::from(self.config.config());
        match connector.connect(self.name.clone(), stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(DeliveryError::Unreachable { cause: format!("TLS: {error}") }),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}
