//! The network between etcd's members, in which one of them can be cut off from the others.
//!
//! Each member advertises a port of this network to the other members; connections to that port are passed on to the
//! member. etcd says in every request to a peer who sends it (`X-Server-From`), so both directions of a member can be
//! cut: what is sent to it, and what it sends to others. Its clients still reach it: that is what distinguishes a
//! partition from a frozen member. What is cut off waits and is delivered later, as in a real network for a while.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

const FROM: &[u8] = b"x-server-from: ";

/// A member that is cut off: its index, and its id as etcd writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CutOff {
    index: usize,
    id: Vec<u8>,
}

/// The network. Dropping it cuts every connection.
#[derive(Debug)]
pub(crate) struct PeerNetwork {
    cut_off: watch::Sender<Option<CutOff>>,
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

// === impl PeerNetwork ===

impl PeerNetwork {
    /// A network for members that listen at `targets`, in the order of their indices.
    pub(crate) async fn start(targets: &[SocketAddr]) -> Self {
        let cut_off = watch::Sender::new(None);
        let mut addresses = Vec::new();
        let mut tasks = Vec::new();
        for (index, target) in targets.iter().copied().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free loopback port");
            addresses.push(listener.local_addr().expect("a bound socket has an address"));
            tasks.push(tokio::spawn(serve(listener, index, target, cut_off.subscribe())));
        }
        Self { cut_off, addresses, tasks }
    }

    /// Where the others reach member `index`.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    /// Cuts member `index`, whose id is `id`, off from the others.
    pub(crate) fn cut_off(&self, index: usize, id: &str) {
        self.cut_off.send_replace(Some(CutOff { index, id: id.as_bytes().to_vec() }));
    }

    /// Connects every member again.
    pub(crate) fn heal(&self) {
        self.cut_off.send_replace(None);
    }
}

impl Drop for PeerNetwork {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, index: usize, target: SocketAddr, cut_off: watch::Receiver<Option<CutOff>>) {
    let mut relays = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let cut_off = cut_off.clone();
        relays.spawn(async move {
            // A member that is down refuses, and so does this connection by ending.
            if let Ok(far) = TcpStream::connect(target).await {
                relay(near, far, index, cut_off).await;
            }
        });
        while relays.try_join_next().is_some() {}
    }
}

/// Passes bytes on in both directions until one ends.
async fn relay(near: TcpStream, far: TcpStream, to: usize, cut_off: watch::Receiver<Option<CutOff>>) {
    let from = watch::Sender::new(Vec::new());
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let gate = |learns| Gate { to, from: from.clone(), learns, cut_off: cut_off.clone() };
    tokio::select! {
        () = pass(near_reader, far_writer, gate(true)) => {}
        () = pass(far_reader, near_writer, gate(false)) => {}
    }
}

/// Lets bytes through while neither end is cut off.
struct Gate {
    to: usize,
    /// Who opened the connection, once it has said so.
    from: watch::Sender<Vec<u8>>,
    learns: bool,
    cut_off: watch::Receiver<Option<CutOff>>,
}

// === impl Gate ===

impl Gate {
    fn learn(&self, bytes: &[u8]) {
        if self.learns
            && self.from.borrow().is_empty()
            && let Some(id) = sender(bytes)
        {
            self.from.send_replace(id);
        }
    }

    /// Waits until both ends are connected; false when the network is gone.
    async fn opens(&mut self) -> bool {
        let from = self.from.borrow().clone();
        let is_open = |cut: &Option<CutOff>| cut.as_ref().is_none_or(|cut| cut.index != self.to && cut.id != from);
        self.cut_off.wait_for(is_open).await.is_ok()
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut gate: Gate) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        gate.learn(&buffer[..read]);
        if !gate.opens().await || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// The id of the member that sends these requests.
fn sender(bytes: &[u8]) -> Option<Vec<u8>> {
    let at = bytes.windows(FROM.len()).position(|window| window.eq_ignore_ascii_case(FROM))? + FROM.len();
    let end = bytes[at..].iter().position(|byte| *byte == b'\r')?;
    Some(bytes[at..at + end].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_what_etcd_says() {
        let request = b"POST /raft HTTP/1.1\r\nHost: a\r\nX-Server-From: 8e9e05c52164694d\r\nX-Y: z\r\n\r\n";
        assert_eq!(sender(request).as_deref(), Some(&b"8e9e05c52164694d"[..]));
        assert_eq!(sender(b"GET /version HTTP/1.1\r\n\r\n"), None);
    }
}
