//! What the kernel knows of a server's sockets, before their program does.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use procfs::net::{TcpState, tcp};

const PAUSE: Duration = Duration::from_millis(1);

/// Blocks until the kernel knows of `count` connections at `server` that their clients have closed and the server has
/// not.
///
/// On a busy machine the end of a connection takes its time even over loopback: close(2) returns before the other side
/// has heard of it. Blocks the thread, so that it can be used where no runtime makes progress.
///
/// # Panics
///
/// When there are not as many within `limit`.
#[track_caller]
pub fn wait_until_closed_by_client(server: SocketAddr, count: usize, limit: Duration) {
    let end = Instant::now() + limit;
    loop {
        let known = closed_by_client(server);
        if known == count {
            return;
        }
        assert!(Instant::now() < end, "{known} connections to {server} are closed by their clients, not {count}");
        std::thread::sleep(PAUSE);
    }
}

/// Also of connections that wait to be accepted.
fn closed_by_client(server: SocketAddr) -> usize {
    let sockets = tcp().unwrap_or_default();
    sockets.iter().filter(|socket| socket.local_address == server && socket.state == TcpState::CloseWait).count()
}
