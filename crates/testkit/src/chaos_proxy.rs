//! A TCP proxy that breaks, delays or swallows what passes, and keeps its port while it is down.
//!
//! Put between two parts it makes "200, break, 503, restore, 200" a test that can be read. The network's usual
//! accidents look different to the parts, so each has its own method: [`refuse`](ChaosProxy::refuse) is a process that
//! is not there, [`reset`](ChaosProxy::reset) one that was killed, [`swallow`](ChaosProxy::swallow) a network or a
//! process that hangs, [`delay`](ChaosProxy::delay) a long way.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::listening::Listening;

/// A running proxy; dropping it closes its listener and its connections.
#[derive(Debug)]
pub struct ChaosProxy {
    relays: Relays,
    listening: Listening,
}

/// What a listener, the first or a later one, is served with.
#[derive(Debug)]
struct Relays {
    target: SocketAddr,
    conditions: watch::Sender<NetworkConditions>,
    accepted: Arc<AtomicUsize>,
}

/// How bytes fare, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NetworkConditions {
    /// Every read waits this long before it is passed on.
    Passes(Duration),
    /// Nothing is read any more: the sender's writes stop when the buffers are full.
    Swallowed,
}

// === impl ChaosProxy ===

impl ChaosProxy {
    /// A proxy to `target` that does nothing yet but pass bytes.
    ///
    /// # Panics
    ///
    /// When there is no free loopback port.
    pub async fn start(target: SocketAddr) -> Self {
        let conditions = watch::Sender::new(NetworkConditions::Passes(Duration::ZERO));
        let relays = Relays { target, conditions, accepted: Arc::default() };
        let listening = Listening::start(|listener| relays.serve(listener)).await;
        Self { relays, listening }
    }

    /// Where it listens, for as long as it lives.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Connections accepted so far.
    pub fn connections_accepted(&self) -> usize {
        self.relays.accepted.load(Ordering::Relaxed)
    }

    /// Refuses new connections and resets the open ones, as if nothing were there.
    ///
    /// # Panics
    ///
    /// When the port cannot be kept.
    pub async fn refuse(&mut self) {
        self.listening.down().await;
    }

    /// Resets the open connections; new ones are accepted.
    pub async fn reset(&mut self) {
        self.refuse().await;
        self.restore();
    }

    /// From now on nothing passes, and no connection is closed.
    pub fn swallow(&self) {
        self.relays.conditions.send_replace(NetworkConditions::Swallowed);
    }

    /// From now on everything takes `delay` longer, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.relays.conditions.send_replace(NetworkConditions::Passes(delay));
    }

    /// Good conditions again: accepts, passes everything, at once.
    ///
    /// # Panics
    ///
    /// When the kernel refuses to listen again.
    pub fn restore(&mut self) {
        self.relays.conditions.send_replace(NetworkConditions::Passes(Duration::ZERO));
        self.listening.up(|listener| self.relays.serve(listener));
    }
}

// === impl Relays ===

impl Relays {
    fn serve(&self, listener: TcpListener) -> JoinHandle<()> {
        let target = self.target;
        let conditions = self.conditions.subscribe();
        let accepted = Arc::clone(&self.accepted);
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(relay(client, target, conditions.clone()));
                while connections.try_join_next().is_some() {}
            }
        })
    }
}

/// Passes bytes both ways until both sides are done.
async fn relay(client: TcpStream, target: SocketAddr, conditions: watch::Receiver<NetworkConditions>) {
    let Ok(server) = TcpStream::connect(target).await else {
        let _best_effort = client.set_zero_linger();
        return;
    };
    let mut pair = Pair { client, server, is_over: false };
    let ((client_reads, client_writes), (server_reads, server_writes)) = (pair.client.split(), pair.server.split());
    let there = pass(client_reads, server_writes, conditions.clone());
    let back = pass(server_reads, client_writes, conditions);
    pair.is_over = tokio::try_join!(there, back).is_ok();
}

/// Both sides of a connection; unless both have ended in order, both are reset, also when the proxy is aborted.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    is_over: bool,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.is_over {
            let _best_effort = (self.client.set_zero_linger(), self.server.set_zero_linger());
        }
    }
}

async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut conditions: watch::Receiver<NetworkConditions>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        loop {
            let now = *conditions.borrow_and_update();
            match now {
                NetworkConditions::Passes(delay) => {
                    if !delay.is_zero() {
                        sleep(delay).await;
                    }
                    break;
                }
                // An error means that the proxy is gone, and this task soon.
                NetworkConditions::Swallowed => conditions.changed().await.map_err(std::io::Error::other)?,
            }
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    /// The status line's first bytes of one request on a connection of its own, or what went wrong.
    async fn ask(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let mut answer = [0; 12];
        tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[tokio::test]
    async fn passes_breaks_swallows_and_passes_again_on_one_port() {
        let upstream = Upstream::named("a").await;
        let mut proxy = ChaosProxy::start(upstream.address()).await;
        assert_eq!(ask(proxy.address()).await.unwrap(), "HTTP/1.1 200");
        proxy.refuse().await;
        assert_eq!(ask(proxy.address()).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.restore();
        assert_eq!(ask(proxy.address()).await.unwrap(), "HTTP/1.1 200");
        proxy.swallow();
        assert_eq!(ask(proxy.address()).await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        proxy.restore();
        assert_eq!(ask(proxy.address()).await.unwrap(), "HTTP/1.1 200");
    }

    #[tokio::test]
    async fn a_reset_breaks_the_open_connections_only() {
        let mut upstream = Upstream::listen().await;
        let mut proxy = ChaosProxy::start(upstream.address()).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut conversation = upstream.accept().await;
        assert_eq!(conversation.read_some().await, b"x");
        proxy.reset().await;
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        conversation.closed().await;
        TcpStream::connect(proxy.address()).await.unwrap();
        upstream.accept().await;
    }
}
