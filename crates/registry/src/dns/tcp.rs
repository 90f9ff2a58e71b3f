//! Questions over TCP (RFC 7766): after a truncated answer, and from whoever likes it better.
//!
//! Every connection has its limits, and so have all of them together and those of one client: one that opens many and
//! says nothing cannot keep the others out for longer than [`Limits::idle`].

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Dns, message::Transport};

/// How much TCP is allowed to cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time. Further ones wait in the kernel's queue. Default 256.
    pub connections_max: usize,
    /// Of these, with one client address. Further ones are closed at once. Default 64.
    pub per_client_max: usize,
    /// How long a question may take to come, from the end of the one before to its last byte. Default 5 s.
    pub idle: Duration,
    /// How long a client may take to read an answer. Default 5 s.
    pub write: Duration,
}

/// A file descriptor may be free again a moment later.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// How many connections each client has.
type Clients = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place among the connections of one client; free again when dropped.
struct Seat {
    clients: Clients,
    client: IpAddr,
    _permit: OwnedSemaphorePermit,
}

/// Accepts and answers for as long as it is polled.
pub(super) async fn run(listener: TcpListener, dns: Dns, limits: Limits) -> Infallible {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let clients = Clients::default();
    // Ends them all when this is dropped.
    let mut connections = JoinSet::new();
    loop {
        let permit = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, client)) => {
                if let Some(seat) = Seat::take(&clients, client.ip(), permit, limits.per_client_max) {
                    let dns = dns.clone();
                    connections.spawn(async move {
                        let _seat = seat;
                        if let Err(error) = converse(stream, &dns, limits).await {
                            tracing::debug!(%client, %error, "a connection ends");
                        }
                    });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no connection");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// Answers one question after the other until the client is done, or too slow, or talks nonsense.
async fn converse(mut stream: TcpStream, dns: &Dns, limits: Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut question = Vec::new();
    loop {
        timeout(limits.idle, read(&mut stream, &mut question)).await??;
        let Some(answer) = dns.answer(&question, Transport::Tcp) else { return Ok(()) };
        let length = u16::try_from(answer.len()).expect("an answer is made to fit");
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(limits.write, stream.write_all(&framed)).await??;
    }
}

async fn read(stream: &mut TcpStream, question: &mut Vec<u8>) -> io::Result<()> {
    let length = stream.read_u16().await?;
    question.clear();
    // Grows with what really comes, whatever length was announced.
    let read = stream.take(length.into()).read_to_end(question).await?;
    if read < length.into() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 256, per_client_max: 64, idle: Duration::from_secs(5), write: Duration::from_secs(5) }
    }
}

// === impl Seat ===

impl Seat {
    fn take(clients: &Clients, client: IpAddr, permit: OwnedSemaphorePermit, most: usize) -> Option<Self> {
        let mut counts = clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { clients: clients.clone(), client, _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}
