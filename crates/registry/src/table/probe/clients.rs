//! What checks connect with: host names are resolved beside them, and each authority file has a client of its own.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use service_kit::{
    client::{ClientTls, ClientTlsError, Connector, HttpClient},
    names::Names,
};

use crate::table::check::Authorities;

/// Clients that were made once, and are used for as long as the registry lasts. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) names: Names,
    /// `None`: in clear.
    http: Made<Option<Authorities>, HttpClient>,
    grpc: Made<Option<Authorities>, Connector>,
}

type Made<K, V> = Arc<Mutex<HashMap<K, V>>>;

// === impl Clients ===

impl Clients {
    pub(super) fn new(names: Names) -> Self {
        let (http, grpc) = Default::default();
        Self { names, http, grpc }
    }

    /// For HTTP/1.1.
    ///
    /// # Errors
    ///
    /// The authorities cannot be used.
    pub(super) fn http(&self, tls: Option<&Authorities>) -> Result<HttpClient, ClientTlsError> {
        found_or_made(&self.http, tls.cloned(), || match tls {
            Some(authorities) => HttpClient::resolved_by(&trusting(authorities), &self.names),
            None => Ok(HttpClient::probe_by(&self.names)),
        })
    }

    /// For HTTP/2.
    ///
    /// # Errors
    ///
    /// The authorities cannot be used.
    pub(super) fn grpc(&self, tls: Option<&Authorities>) -> Result<Connector, ClientTlsError> {
        found_or_made(&self.grpc, tls.cloned(), || {
            Connector::http2(tls.map(trusting).as_ref()).map(|connector| connector.resolved_by(&self.names))
        })
    }
}

fn trusting(authorities: &Authorities) -> ClientTls {
    let ca_file = match authorities {
        Authorities::System => None,
        Authorities::File(path) => Some(path.clone()),
    };
    ClientTls { ca_file, identity: None }
}

/// What cannot be made is tried again the next time.
fn found_or_made<K: Eq + Hash, V: Clone, E>(
    all: &Mutex<HashMap<K, V>>,
    key: K,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<V, E> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(&key) {
        return Ok(found.clone());
    }
    let made = make()?;
    all.insert(key, made.clone());
    Ok(made)
}
