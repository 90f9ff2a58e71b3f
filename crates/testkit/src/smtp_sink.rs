//! An SMTP server for tests: speaks the real protocol, keeps what it is given, and fails exactly as told.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::smtp_sink::{Behaviour, SmtpSink, Step};
//! let sink = SmtpSink::start().await;
//! sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted, try again"));
//! // … let something send to sink.url(), twice …
//! assert_eq!(sink.messages().len(), 1);
//! # }
//! ```
//!
//! It is strict where senders get it wrong: a line that does not end in CR LF, or a bare CR or LF inside a message, is
//! a [violation](SmtpSink::violations). At every [`Step`] it can answer anything, fall silent, or drop the connection,
//! also after it has taken the message. STARTTLS and TLS use a certificate made at the start, under an authority of its
//! own ([`SmtpSink::ca_pem`]).

mod received;
mod script;
mod session;
mod tls;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::listening::Listening;

pub use received::Received;
pub use script::{Behaviour, Step};
pub use tls::SinkTls;

use script::Script;

/// What kind of server it is.
#[derive(Debug, Clone, Default)]
pub struct SinkOptions {
    /// How a conversation becomes encrypted. Default: not at all.
    pub tls: SinkTls,
    /// User and password without which no mail is taken. Default: no authentication.
    pub login: Option<(String, String)>,
}

/// A running server; dropping it closes its listener and its connections.
#[derive(Debug)]
pub struct SmtpSink {
    shared: Arc<Shared>,
    listening: Listening,
}

/// What the handle and every session share.
#[derive(Debug)]
struct Shared {
    options: SinkOptions,
    certificate: tls::Certificate,
    log: Mutex<Log>,
    /// Changes when all sessions are to end; the value is their last line.
    farewell: watch::Sender<Option<String>>,
    /// Changes when [`Behaviour::Hold`] ends.
    released: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Log {
    script: Script,
    messages: Vec<Received>,
    commands: Vec<String>,
    violations: Vec<String>,
    accepted: usize,
    open: usize,
    held: usize,
    open_max: Option<usize>,
    refused: usize,
}

// === impl SmtpSink ===

impl SmtpSink {
    /// A server without encryption or passwords on a free loopback port.
    pub async fn start() -> Self {
        Self::start_with(SinkOptions::default()).await
    }

    /// A server on a free loopback port.
    ///
    /// # Panics
    ///
    /// When there is no free port or no certificate can be made.
    pub async fn start_with(options: SinkOptions) -> Self {
        let shared = Arc::new(Shared {
            options,
            certificate: tls::Certificate::new(),
            log: Mutex::default(),
            farewell: watch::Sender::new(None),
            released: watch::Sender::new(()),
        });
        let listening = Listening::start(|listener| listen(listener, &shared)).await;
        Self { shared, listening }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// `smtp://127.0.0.1:PORT`, or `smtps://localhost:PORT` when TLS starts with the connection. The certificate is for
    /// `localhost` and 127.0.0.1.
    pub fn url(&self) -> String {
        match self.shared.options.tls {
            SinkTls::Off => format!("smtp://{}", self.address()),
            SinkTls::StartTls => format!("smtp://localhost:{}?tls=required", self.address().port()),
            SinkTls::Implicit => format!("smtps://localhost:{}", self.address().port()),
        }
    }

    /// The authority that signed its certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.shared.certificate.ca_pem
    }

    /// From now on does this at `step`.
    pub fn always(&self, step: Step, behaviour: Behaviour) {
        self.shared.log().script.always(step, behaviour);
    }

    /// Does this the next time that `step` comes; said twice, the next two times.
    pub fn once(&self, step: Step, behaviour: Behaviour) {
        self.shared.log().script.once(step, behaviour);
    }

    /// Behaves well again at every step.
    pub fn behave(&self) {
        self.shared.log().script = Script::default();
    }

    /// From now on greets a connection with 421 while this many others are open; `None`: no limit.
    pub fn limit_connections(&self, open_max: Option<usize>) {
        self.shared.log().open_max = open_max;
    }

    /// Connections refused so far because of [`limit_connections`](Self::limit_connections).
    pub fn connections_refused(&self) -> usize {
        self.shared.log().refused
    }

    /// The messages taken so far, in order.
    pub fn messages(&self) -> Vec<Received> {
        self.shared.log().messages.clone()
    }

    /// How many there are of [`messages`](Self::messages), without a copy of each.
    pub fn messages_taken(&self) -> usize {
        self.shared.log().messages.len()
    }

    /// The command lines received so far, passwords included.
    pub fn commands(&self) -> Vec<String> {
        self.shared.log().commands.clone()
    }

    /// What clients did that RFC 5321 forbids.
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

    /// Conversations that wait at a [`Behaviour::Hold`] now.
    pub fn held(&self) -> usize {
        self.shared.log().held
    }

    /// Lets every conversation go on that is [held](Self::held) now.
    pub fn release(&self) {
        self.shared.released.send_replace(());
    }

    /// Closes every open connection, after a last line when there is one, as servers do with idle ones.
    pub fn close_connections(&self, last_line: Option<&str>) {
        self.shared.farewell.send_replace(last_line.map(str::to_owned));
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

fn listen(listener: TcpListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    tokio::spawn(accept(listener, Arc::clone(shared)))
}

/// Accepts until it is aborted; the sessions end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Small replies must not wait for the acknowledgement of the one before.
        let _best_effort = stream.set_nodelay(true);
        let count = OpenConnection::count(Arc::clone(&shared));
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            match count {
                Some(_count) => session::run(stream, shared).await,
                None => session::refuse(stream).await,
            }
        });
        while sessions.try_join_next().is_some() {}
    }
}

/// Counts a connection as open until it is dropped.
struct OpenConnection(Arc<Shared>);

impl OpenConnection {
    /// `None` when as many are open as may be.
    fn count(shared: Arc<Shared>) -> Option<Self> {
        let mut log = shared.log();
        log.accepted += 1;
        if log.open_max.is_some_and(|max| log.open >= max) {
            log.refused += 1;
            return None;
        }
        log.open += 1;
        drop(log);
        Some(Self(shared))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.log().open -= 1;
    }
}
