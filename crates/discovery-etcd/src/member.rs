//! One etcd member: its own client, connected when it is first needed, and its token.

use std::{fmt, future::Future, sync::Arc};

use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient, WatchClient};
use service_kit::Secret;
use tokio::sync::{Mutex, OnceCell};

use crate::{failure::Failure, lane::Lanes};

/// Responses may be larger than gRPC's 4 MiB: a list of ten thousand instances, or one transaction that touches as many.
const RESPONSE_MAX_BYTES: usize = 256 * 1024 * 1024;

/// One etcd member.
pub(crate) struct Member {
    pub(crate) endpoint: String,
    pub(crate) lanes: Lanes,
    options: ConnectOptions,
    user: Option<(String, Secret)>,
    client: OnceCell<Client>,
    login: Mutex<Login>,
}

/// How often we have logged in, so that calls that fail together log in once; 0 is never.
#[derive(Default)]
struct Login(u64);

// === impl Member ===

impl Member {
    /// Knows the member; touches no network.
    pub(crate) fn new(endpoint: String, options: ConnectOptions, user: Option<(String, Secret)>) -> Self {
        let (client, login) = Default::default();
        Self { endpoint, lanes: Lanes::default(), options, user, client, login }
    }

    /// Runs `call` on this member; once more with a new token when ours is no longer good.
    ///
    /// Unbounded: the caller sets the limit, and may drop this at any time.
    pub(crate) async fn attempt<T, F>(&self, call: &impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (client, login) = self.ready().await?;
        match call(client.clone()).await.map_err(Failure::from) {
            Err(Failure::Unauthenticated(_)) if self.user.is_some() => {
                self.log_in(&client, login).await?;
                call(client).await.map_err(Failure::from)
            }
            // No token will ever come of trying again.
            Err(Failure::Unauthenticated(text)) => Err(Failure::Denied(format!("{text}; configure an etcd user"))),
            result => result,
        }
    }

    /// The client, logged in if there is a user, and which login that was.
    pub(crate) async fn ready(&self) -> Result<(Client, u64), Failure> {
        let connect = || Client::connect([&self.endpoint], Some(self.options.clone()));
        // Without a user in the options this does not touch the network: the channel connects when it is used.
        let client = self.client.get_or_try_init(connect).await?;
        let login = if self.user.is_some() { self.log_in(client, 0).await? } else { 0 };
        Ok((client.clone(), login))
    }

    /// Gets a new token, unless somebody has got one since the login number `stale`. Returns the number of the login.
    pub(crate) async fn log_in(&self, client: &Client, stale: u64) -> Result<u64, Failure> {
        let Some((user, password)) = &self.user else { return Ok(0) };
        let mut login = self.login.lock().await;
        if login.0 > stale {
            return Ok(login.0);
        }
        let credentials = Some((user.clone(), password.expose().to_owned()));
        // The token is shared by all clones of the client.
        match client.clone().update_user(credentials).await.map_err(Failure::from) {
            // Authentication may be switched on later; then calls fail as unauthenticated, and we come back here.
            Ok(()) | Err(Failure::AuthNotEnabled) => {
                login.0 += 1;
                Ok(login.0)
            }
            Err(failure) => Err(failure),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The parts of etcd's API that we use, able to take large responses.
pub(crate) trait Parts {
    /// Keys.
    fn kv(&self) -> KvClient;
    /// Leases.
    fn lease(&self) -> LeaseClient;
    /// Watches.
    fn watch(&self) -> WatchClient;
}

impl Parts for Client {
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
