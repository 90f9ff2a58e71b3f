//! The upstreams: any request, one fixed answer.
//!
//! Two listeners for two upstreams. Connections are kept for ever; what they cost is one `recv` and one `send` a
//! request.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
};

use mio::{
    Interest, Registry, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use super::wire;

/// Listeners, and the connections that they accepted.
#[derive(Debug)]
pub struct Origin {
    listeners: Vec<TcpListener>,
    connections: Slab<Served>,
    answer: Rc<[u8]>,
    /// Requests answered so far.
    pub answered: u64,
}

#[derive(Debug)]
struct Served {
    stream: TcpStream,
    /// The start of a request that has not arrived whole.
    input: Vec<u8>,
    /// What the kernel had no room for.
    unsent: Vec<u8>,
}

// === impl Origin ===

impl Origin {
    /// Listens on `listeners` free loopback ports, and answers with a body of `body_bytes`.
    ///
    /// # Errors
    ///
    /// No free port.
    pub fn listen(listeners: usize, body_bytes: usize) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listeners = (0..listeners).map(|_| listen(any)).collect::<io::Result<_>>()?;
        Ok(Self { listeners, connections: Slab::new(), answer: answer(body_bytes), answered: 0 })
    }

    /// Answers with a body of `body_bytes` from now on.
    pub fn set_body(&mut self, body_bytes: usize) {
        self.answer = answer(body_bytes);
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Never, for a bound socket.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    pub(super) fn listeners(&mut self) -> &mut [TcpListener] {
        &mut self.listeners
    }

    /// Accepts all that wait at listener `index`. `token` makes a token from a connection's key.
    pub(super) fn accept(&mut self, index: usize, registry: &Registry, token: impl Fn(usize) -> Token) {
        // Any error ends the round: there is none left, or no descriptor; the next event tries again.
        while let Ok((mut stream, _)) = self.listeners[index].accept() {
            let _best_effort = stream.set_nodelay(true);
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut stream, token(entry.key()), interest).is_ok() {
                entry.insert(Served { stream, input: Vec::new(), unsent: Vec::new() });
            }
        }
    }

    /// A connection is ready.
    pub(super) fn ready(&mut self, key: usize, event: &Event, scratch: &mut [u8], registry: &Registry) {
        let Some(served) = self.connections.get_mut(key) else { return };
        match served.ready(event, scratch, &self.answer) {
            Ok(answered) => self.answered += answered,
            Err(_over) => {
                let mut served = self.connections.remove(key);
                // It was registered when it was accepted.
                let _ = registry.deregister(&mut served.stream);
            }
        }
    }
}

/// A listener with a long queue: a burst of a gateway's connections must not look like a dead upstream.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn answer(body_bytes: usize) -> Rc<[u8]> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + body_bytes, b'x');
    answer.into()
}

// === impl Served ===

impl Served {
    /// Answers what has arrived; how many that were. An error is the end of the connection.
    fn ready(&mut self, event: &Event, scratch: &mut [u8], answer: &[u8]) -> io::Result<u64> {
        if event.is_writable() && !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        let is_closed = event.is_read_closed() || event.is_error();
        let mut answered = 0;
        while event.is_readable() || is_closed {
            let bytes = match self.stream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            answered += self.take(&scratch[..bytes], answer)?;
            if bytes < scratch.len() && !is_closed {
                break;
            }
        }
        Ok(answered)
    }

    fn take(&mut self, bytes: &[u8], answer: &[u8]) -> io::Result<u64> {
        let mut answered = 0;
        let joined = (!self.input.is_empty()).then(|| {
            self.input.extend_from_slice(bytes);
            std::mem::take(&mut self.input)
        });
        let mut rest = joined.as_deref().unwrap_or(bytes);
        while let Some(extent) = wire::extent(rest).map_err(|wire::Malformed| ErrorKind::InvalidData)? {
            let Some((_, after)) = rest.split_at_checked(extent.head + extent.body) else { break };
            self.send(answer)?;
            answered += 1;
            rest = after;
        }
        self.input.extend_from_slice(rest);
        Ok(answered)
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && self.unsent.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }
}
