//! A loopback listener that can go down and come back on the same port, as a service that is restarted does.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};

/// A port of this test's own, and the task that serves it while it is up. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    Up(JoinHandle<()>),
    /// Bound but not listening: connections are refused, and no other program gets the port.
    Down(TcpSocket),
    /// For the moment between the two.
    Changing,
}

// === impl Listening ===

impl Listening {
    /// Listens on a free port; `serve` spawns the task that accepts.
    pub(crate) async fn start(serve: impl FnOnce(TcpListener) -> JoinHandle<()>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        Self { address, state: State::Up(serve(listener)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the task, and with it every connection that it owns. The port stays reserved.
    pub(crate) async fn down(&mut self) {
        match std::mem::replace(&mut self.state, State::Changing) {
            State::Up(task) => {
                task.abort();
                // The listener is closed when the task is gone.
                let _aborted = task.await;
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.set_reuseaddr(true).expect("an option that every TCP socket has");
                socket.bind(self.address).expect("the port that was just given up");
                self.state = State::Down(socket);
            }
            other => self.state = other,
        }
    }

    /// Listens again after [`down`](Self::down), on the same port.
    pub(crate) fn up(&mut self, serve: impl FnOnce(TcpListener) -> JoinHandle<()>) {
        match std::mem::replace(&mut self.state, State::Changing) {
            State::Down(socket) => {
                self.state = State::Up(serve(socket.listen(64).expect("a bound socket can listen")));
            }
            other => self.state = other,
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let State::Up(task) = &self.state {
            task.abort();
        }
    }
}
