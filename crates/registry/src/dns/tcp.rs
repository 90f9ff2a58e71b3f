//! Questions over TCP (RFC 7766): after a truncated answer, and from clients that prefer it.
//!
//! Every connection has its limits, and so have all of them together and those of one client: at the bound the one that has
//! waited longest for a question is closed for a new one.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use service_kit::connections::{Bounds, Connections, Place};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{Dns, message::Transport};

/// How much TCP is allowed to cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time. Default 256.
    pub connections_max: usize,
    /// Of these, with one client (IPv4 address, IPv6 /64). Default 64.
    pub per_client_max: usize,
    /// How long a question may take to come, from the end of the one before to its last byte. Default 5 s.
    pub idle: Duration,
    /// How long a client may take to read an answer. Default 5 s.
    pub write: Duration,
}

/// A file descriptor may be free again a moment later.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Accepts and answers for as long as it is polled.
pub(super) async fn run(listener: TcpListener, dns: Dns, limits: Limits) -> Infallible {
    let places = Connections::new(Bounds { max: limits.connections_max, per_client_max: limits.per_client_max });
    let clock = Clock(Instant::now());
    // Ends them all when this is dropped.
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, client)) => {
                places.room(|| clock.now_ms()).await;
                if let Ok(place) = places.admit(client.ip(), false, clock.now_ms()) {
                    let dns = dns.clone();
                    connections.spawn(async move {
                        let conversation = pin!(converse(stream, &dns, limits, &place, clock));
                        if let Some(Err(error)) = place.hold(conversation).await {
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

/// Milliseconds since the listener began.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Answers one question after the other until the client is done, or too slow, or talks nonsense.
async fn converse(mut stream: TcpStream, dns: &Dns, limits: Limits, place: &Place, clock: Clock) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut question = Vec::new();
    loop {
        timeout(limits.idle, read(&mut stream, &mut question)).await??;
        let Some(answer) = dns.answer(&question, Transport::Tcp).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).expect("an answer is made to fit");
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        place.begin();
        timeout(limits.write, stream.write_all(&framed)).await??;
        place.wait(clock.now_ms());
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
