//! One port for all workers of a gateway, and for no other gateway.
//!
//! Each worker has a listener of its own, and the kernel spreads connections over them (`SO_REUSEPORT`, socket(7)). That
//! option lets any process of the same user join in: a second gateway on the same port would get half of the connections,
//! and neither would say so. Therefore the first listener is bound, and begins to listen, without the option, which fails
//! while any other process listens on the port. Only then the option is set, and the other listeners join. Of two gateways
//! that start at the same moment, the kernel lets one listen first; the other fails then.
//!
//! A restart is not held up by connections of the process before (`SO_REUSEADDR`).

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use service_kit::serve::BindError;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::GatewayOptions;

/// Connections that wait in the kernel for being accepted, per listener; the kernel has a limit of its own.
const BACKLOG: i32 = 1024;

/// Elsewhere the option counts only for a socket that has it before it is bound, and a second gateway is not noticed.
const MAY_SHARE_LATER: bool = cfg!(target_os = "linux");

/// The port of all workers: bound, but not listening yet.
#[derive(Debug)]
pub struct Listeners {
    first: Socket,
    address: SocketAddr,
    cores: usize,
}

impl Listeners {
    /// Binds `address`; port 0 becomes a free port.
    ///
    /// # Errors
    ///
    /// Another process listens there, as far as it can be seen which one; the address is not of this host; or the port
    /// needs privileges.
    pub fn bind(address: SocketAddr, options: &GatewayOptions) -> Result<Self, BindError> {
        let bound = bind(address, !MAY_SHARE_LATER).and_then(|first| {
            let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok((first, address))
        });
        let (first, address) = bound.map_err(|source| BindError::new(address, source))?;
        Ok(Self { first, address, cores: options.cores() })
    }

    /// Where they listen, or will.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many there are: the number of workers.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Begins to listen: one listener for each worker.
    ///
    /// # Errors
    ///
    /// Another process began to listen there since.
    pub(crate) fn listen(self) -> Result<Vec<TcpListener>, BindError> {
        let Self { first, address, cores } = self;
        let listen = || {
            first.listen(BACKLOG)?;
            first.set_reuse_port(true)?;
            let mut listeners = vec![TcpListener::from(first)];
            for _ in 1..cores {
                let another = bind(address, true)?;
                another.listen(BACKLOG)?;
                listeners.push(another.into());
            }
            Ok(listeners)
        };
        listen().map_err(|source| BindError::new(address, source))
    }
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    // Inherited by the accepted connections, which saves each a system call.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn options() -> GatewayOptions {
        GatewayOptions { workers: std::num::NonZeroUsize::new(2), ..GatewayOptions::default() }
    }

    #[test]
    fn of_two_that_start_at_the_same_moment_one_listens_and_the_other_says_who_does() {
        let one = Listeners::bind(([127, 0, 0, 1], 0).into(), &options()).unwrap();
        let other = Listeners::bind(one.address(), &options()).expect("no other listens yet");
        let address = one.address();
        assert!(std::net::TcpStream::connect(address).is_err(), "no client connects before it listens");
        let listening = one.listen().unwrap();
        assert_eq!(listening.len(), 2);
        let error = other.listen().unwrap_err().to_string();
        let held = format!("cannot listen on {address}: it is held by ");
        assert!(error.starts_with(&held) && error.contains(&std::process::id().to_string()), "{error}");
        assert!(Listeners::bind(address, &options()).is_err(), "one that comes later does not get so far");
        drop(listening);
        assert_eq!(Listeners::bind(address, &options()).unwrap().listen().unwrap().len(), 2, "and it is free again");
    }
}
