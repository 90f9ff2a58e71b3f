//! What checks connect with: host names are resolved beside them, and each authority file has a client of its own.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use service_kit::{
    client::{ClientTls, ClientTlsError, Connector, HttpClient},
    names::Names,
};
use tokio::task::spawn_blocking;

use crate::table::check::Authorities;

/// Clients that were made once, and are used for as long as the registry lasts. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) names: Names,
    /// `None`: in clear.
    http: Made<Option<Authorities>, HttpClient>,
    grpc: Made<Option<Authorities>, Connector>,
}

type Made<K, V> = Arc<Mutex<HashMap<K, Making<V>>>>;

/// One that is being made, or was. Certificates are read from a disk, which may be slow or hang: that is waited for by
/// those alone who need them, and begun once.
type Making<V> = Shared<BoxFuture<'static, Result<V, Arc<ClientTlsError>>>>;

// === impl Clients ===

impl Clients {
    pub(super) fn new(names: Names) -> Self {
        Self { names, http: Made::default(), grpc: Made::default() }
    }

    /// For HTTP/1.1.
    ///
    /// # Errors
    ///
    /// The authorities cannot be used.
    pub(super) async fn http(&self, tls: Option<&Authorities>) -> Result<HttpClient, Arc<ClientTlsError>> {
        let names = self.names.clone();
        let trusted = tls.map(trusting);
        found_or_made(&self.http, tls.cloned(), move || match trusted {
            Some(trusted) => HttpClient::resolved_by(&trusted, &names),
            None => Ok(HttpClient::probe_by(&names)),
        })
        .await
    }

    /// For HTTP/2.
    ///
    /// # Errors
    ///
    /// The authorities cannot be used.
    pub(super) async fn grpc(&self, tls: Option<&Authorities>) -> Result<Connector, Arc<ClientTlsError>> {
        let names = self.names.clone();
        let trusted = tls.map(trusting);
        let make = move || Connector::http2(trusted.as_ref()).map(|connector| connector.resolved_by(&names));
        found_or_made(&self.grpc, tls.cloned(), make).await
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
fn found_or_made<K: Eq + Hash, V: Clone + Send + Sync + 'static>(
    all: &Mutex<HashMap<K, Making<V>>>,
    key: K,
    make: impl FnOnce() -> Result<V, ClientTlsError> + Send + 'static,
) -> Making<V> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(&key).filter(|making| !matches!(making.peek(), Some(Err(_)))) {
        return found.clone();
    }
    let made = spawn_blocking(make);
    let making = async move { made.await.expect("making a client does not panic").map_err(Arc::new) };
    let making = making.boxed().shared();
    all.insert(key, making.clone());
    making
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{atomic::AtomicUsize, atomic::Ordering, mpsc},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_is_asked_once_and_holds_no_other_client_up() {
        let all: Made<u8, u8> = Made::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let (goes_on, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(Some(hangs));
        for _ in 0..3 {
            let begun = Arc::clone(&begun);
            let hangs = hangs.lock().unwrap().take();
            let making = found_or_made(&all, 1, move || {
                begun.fetch_add(1, Ordering::Relaxed);
                hangs.map(|hangs| hangs.recv());
                Ok(7)
            });
            assert!(timeout(Duration::from_millis(5), making).await.is_err());
        }
        assert_eq!(found_or_made(&all, 2, || Ok(8)).await.unwrap(), 8);
        goes_on.send(()).unwrap();
        assert_eq!(found_or_made(&all, 1, || Ok(9)).await.unwrap(), 7);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_tried_again() {
        let clients = Clients::new(Names::default());
        let folder = tempfile::tempdir().unwrap();
        let file = Authorities::File(folder.path().join("ca.pem"));
        assert!(clients.http(Some(&file)).await.is_err() && clients.grpc(Some(&file)).await.is_err());
        let certified = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certified.cert.pem()).unwrap();
        assert!(clients.http(Some(&file)).await.is_ok() && clients.grpc(Some(&file)).await.is_ok());
    }
}
