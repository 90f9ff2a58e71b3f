//! One etcd member: its own client, connected when it is first needed, and its token.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use etcd_client::{Client, KvClient, LeaseClient, WatchClient};
use tokio::sync::Mutex as AsyncMutex;

use crate::client::{access::Access, failure::Failure, keep_alive_stream::KeepAliveStreams, login::Login};

/// Responses may be larger than gRPC's 4 MiB: a list of ten thousand instances, or one transaction that touches as
/// many.
const RESPONSE_MAX_BYTES: usize = 256 * 1024 * 1024;

/// One etcd member.
pub(crate) struct Member {
    pub(crate) endpoint: String,
    pub(crate) keep_alive_streams: KeepAliveStreams,
    access: Arc<Access>,
    /// Held by the one who makes a client.
    making: AsyncMutex<()>,
    connected: Mutex<Option<Connected>>,
}

/// A client, and what it was made with.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) login: Login,
    generation: u64,
}

// === impl Member ===

impl Member {
    /// Knows the member; touches no network.
    pub(crate) fn new(endpoint: String, access: Arc<Access>) -> Self {
        let (making, connected) = Default::default();
        Self { endpoint, keep_alive_streams: KeepAliveStreams::default(), access, making, connected }
    }

    /// Runs `call` on this member; once more with a new token when ours is no longer good.
    ///
    /// Unbounded: the caller sets the limit, and may drop this at any time.
    pub(crate) async fn attempt<T, F>(&self, call: &impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (Connected { client, login, .. }, number) = self.ready().await?;
        match call(client.clone()).await.map_err(Failure::from) {
            Err(Failure::Unauthenticated(_)) if login.is_needed() => {
                login.log_in(&client, number).await?;
                call(client).await.map_err(Failure::from)
            }
            // No token will ever come of trying again.
            Err(Failure::Unauthenticated(text)) => {
                Err(Failure::LoginRefused(format!("{text}; configure an etcd user")))
            }
            result => result,
        }
    }

    /// The client, logged in if there is a user, and which log-in that was.
    pub(crate) async fn ready(&self) -> Result<(Connected, u64), Failure> {
        let connected = self.connected().await?;
        let number = connected.login.log_in(&connected.client, 0).await?;
        Ok((connected, number))
    }

    /// Whether a log-in is under way that calls wait for.
    pub(crate) fn is_logging_in(&self) -> bool {
        self.known().is_some_and(|connected| connected.login.is_under_way())
    }

    /// The client, made of the newest certificates.
    async fn connected(&self) -> Result<Connected, Failure> {
        if let Some(connected) = self.known() {
            return Ok(connected);
        }
        let _making = self.making.lock().await;
        if let Some(connected) = self.known() {
            return Ok(connected);
        }
        let (settings, generation) = self.access.settings();
        // Without a user in the options this does not touch the network: the channel connects when it is used.
        let client = Client::connect([&self.endpoint], Some(settings.connect)).await?;
        let connected = Connected { client, login: Login::new(settings.user), generation };
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(connected.clone());
        Ok(connected)
    }

    /// The client that there is, unless the files have changed since it was made.
    fn known(&self) -> Option<Connected> {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.as_ref().filter(|connected| connected.generation == self.access.generation()).cloned()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The parts of etcd's API that we use, able to take large responses.
pub(crate) trait ClientExt {
    /// Keys.
    fn kv(&self) -> KvClient;
    /// Leases.
    fn lease(&self) -> LeaseClient;
    /// Watches.
    fn watch(&self) -> WatchClient;
}

impl ClientExt for Client {
    fn kv(&self) -> KvClient {
        self.kv_client().max_decoding_message_size(RESPONSE_MAX_BYTES)
    }

    fn lease(&self) -> LeaseClient {
        self.lease_client()
    }

    fn watch(&self) -> WatchClient {
        self.watch_client().max_decoding_message_size(RESPONSE_MAX_BYTES)
    }
}

/// Members are shared by everything that calls etcd.
pub(crate) type Members = Arc<[Member]>;
