//! An upstream for tests: an HTTP/1.1 origin that records exactly what reaches it, and answers or misbehaves as told.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::upstream::{Reply, Upstream};
//! let upstream = Upstream::start(|request| match request.method.as_str() {
//!     "GET" => Reply::ok("hello"),
//!     _ => Reply::Reset,
//! })
//! .await;
//! // … let something send to upstream.address() …
//! assert_eq!(upstream.requests()[0].target, "/");
//! # }
//! ```
//!
//! Its parser is strict: what it does not understand is a [violation](Upstream::violations), so that a proxy in front
//! of it is caught when it forwards nonsense. For conversations that a script cannot hold (a body that arrives piece by
//! piece, an answer before the question is over), [`Upstream::listen`] hands every connection to the test itself.

mod conversation;
mod reply;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::listening::Listening;

pub use conversation::{Conversation, Listener, Malformed, Received};
pub use reply::Reply;

/// A scripted origin on a loopback port; dropping it closes its listener and its connections.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    listening: Listening,
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

/// What the handle and every conversation share.
struct Shared {
    script: Box<Script>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Received>,
    violations: Vec<String>,
    accepted: usize,
    open: usize,
}

// === impl Upstream ===

impl Upstream {
    /// Answers every request with what `script` says.
    ///
    /// # Panics
    ///
    /// When there is no free loopback port.
    pub async fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), log: Mutex::default() });
        let listening = Listening::start(|listener| listen(listener, &shared)).await;
        Self { shared, listening }
    }

    /// Answers every request with 200 and its own `name`.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_| Reply::ok(name)).await
    }

    /// A listener whose connections the test holds itself.
    ///
    /// # Panics
    ///
    /// When there is no free loopback port.
    pub async fn listen() -> Listener {
        Listener::bind().await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The requests received completely, in the order in which they were.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.log().requests.clone()
    }

    /// What was received and is not HTTP/1.1 as RFC 9112 has it.
    pub fn violations(&self) -> Vec<String> {
        self.shared.log().violations.clone()
    }

    /// Connections accepted so far.
    pub fn connections_accepted(&self) -> usize {
        self.shared.log().accepted
    }

    /// Connections that are open now.
    pub fn connections_open(&self) -> usize {
        self.shared.log().open
    }

    /// Stops listening and drops every connection: new ones are refused. The port stays reserved.
    ///
    /// # Panics
    ///
    /// When the port cannot be kept.
    pub async fn down(&mut self) {
        self.listening.down().await;
    }

    /// Listens again after [`down`](Self::down), on the same port.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn up(&mut self) {
        self.listening.up(|listener| listen(listener, &self.shared));
    }
}

// === impl Shared ===

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("log", &self.log).finish_non_exhaustive()
    }
}

fn listen(listener: TcpListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    tokio::spawn(accept(listener, Arc::clone(shared)))
}

/// Accepts until it is aborted; the conversations end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut log = shared.log();
            log.accepted += 1;
            log.open += 1;
            log.accepted
        };
        let open = Open(Arc::clone(&shared));
        conversations.spawn(async move { serve(Conversation::new(stream, number), &open.0).await });
        while conversations.try_join_next().is_some() {}
    }
}

async fn serve(mut conversation: Conversation, shared: &Shared) {
    loop {
        let received = match conversation.read_request().await {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(malformed) => {
                shared.log().violations.push(malformed.to_string());
                return;
            }
        };
        let reply = (shared.script)(&received);
        shared.log().requests.push(received);
        match reply {
            Reply::Bytes(bytes) => conversation.write(&bytes).await,
            Reply::Late(delay, bytes) => {
                tokio::time::sleep(delay).await;
                conversation.write(&bytes).await;
            }
            Reply::ThenClose(bytes) => {
                conversation.write(&bytes).await;
                return;
            }
            Reply::Reset => return conversation.reset(),
            Reply::Silence => return conversation.closed().await,
        }
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.log().open -= 1;
    }
}
