//! Waits for sockets and hands each to its side.

use std::{io, time::Instant};

use mio::{Events, Interest, Poll, Token};

use super::{
    clients::Clients,
    load::{Load, Traffic},
    origin::Origin,
};

/// Tokens from here on are connections of the origin; below are those of the clients.
const ORIGIN: usize = 1 << 32;
/// Tokens from here on are the origin's listeners.
const LISTENERS: usize = 1 << 48;
/// Larger than what a message of a measurement needs.
const SCRATCH_BYTES: usize = 64 * 1024;
/// More are left for the next turn.
const EVENTS_AT_ONCE: usize = 1024;

/// One thread's `epoll`.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    origin: Option<Origin>,
}

// === impl EventLoop ===

impl EventLoop {
    /// A loop that serves `origin`, if there is one, whenever it runs.
    ///
    /// # Errors
    ///
    /// The kernel has no descriptor left.
    pub fn new(mut origin: Option<Origin>) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in origin.iter_mut().flat_map(|origin| origin.listeners().iter_mut()).enumerate() {
            poll.registry().register(listener, Token(LISTENERS + index), Interest::READABLE)?;
        }
        let events = Events::with_capacity(EVENTS_AT_ONCE);
        let scratch = vec![0; SCRATCH_BYTES];
        Ok(Self { poll, events, scratch, origin })
    }

    /// The upstreams that it serves.
    pub fn origin(&mut self) -> Option<&mut Origin> {
        self.origin.as_mut()
    }

    /// Runs `clients` for as long as `goes_on` says so; it is asked after each batch of events.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait.
    pub fn run(
        &mut self,
        clients: &mut Clients,
        traffic: &mut dyn Traffic,
        mut goes_on: impl FnMut(&mut Clients, Instant) -> bool,
    ) -> io::Result<()> {
        loop {
            let now = Instant::now();
            clients.tick(self.poll.registry(), traffic, now);
            if !goes_on(clients, now) {
                return Ok(());
            }
            self.turn(clients, traffic, now)?;
        }
    }

    /// Runs a new load to its end.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::run`].
    pub fn run_to_end(&mut self, load: Load, traffic: &mut dyn Traffic) -> io::Result<Clients> {
        let mut clients = Clients::new(load);
        self.run(&mut clients, traffic, |clients, _| !clients.is_done())?;
        Ok(clients)
    }

    /// Closes the connections of `clients`.
    pub fn close(&self, mut clients: Clients) {
        clients.close(self.poll.registry());
    }

    fn turn(&mut self, clients: &mut Clients, traffic: &mut dyn Traffic, now: Instant) -> io::Result<()> {
        match self.poll.poll(&mut self.events, clients.next_wake(now)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let registry = self.poll.registry();
        for event in &self.events {
            match (event.token().0, &mut self.origin) {
                (listener @ LISTENERS.., Some(origin)) => {
                    origin.accept(listener - LISTENERS, registry, |key| Token(ORIGIN + key));
                }
                (key @ ORIGIN.., Some(origin)) => origin.ready(key - ORIGIN, event, &mut self.scratch, registry),
                (key, _) => clients.ready(key, event, &mut self.scratch, registry, traffic),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::load::{Broken, Connections, Done, Outcome, Pace};

    /// A machine that is busy with other tests may take seconds for anything.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Asks for `/`, and keeps the outcomes.
    #[derive(Default)]
    struct Plain(Vec<Result<u16, Broken>>);

    impl Traffic for Plain {
        fn write(&mut self, _: u64, out: &mut Vec<u8>) {
            out.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }

        fn done(&mut self, done: Done<'_>) {
            self.0.push(match done.outcome {
                Outcome::Answered(status, _) => Ok(status),
                Outcome::Broken(broken) => Err(broken),
            });
        }
    }

    fn load(target: std::net::SocketAddr, pace: Pace, connections: Connections) -> Load {
        Load { target, pace, connections, connections_max: 200, patience: PATIENCE, spin: false }
    }

    fn served() -> (EventLoop, std::net::SocketAddr) {
        let origin = Origin::listen(1, 300_000).unwrap();
        let address = origin.addresses().unwrap()[0];
        (EventLoop::new(Some(origin)).unwrap(), address)
    }

    #[test]
    fn every_request_of_a_load_is_answered_once_on_kept_and_on_fresh_connections() {
        let (mut event_loop, address) = served();
        for connections in [Connections::Kept, Connections::Fresh, Connections::Hoarded] {
            let mut plain = Plain::default();
            let clients = event_loop.run_to_end(load(address, Pace::InAll(100, 30), connections), &mut plain).unwrap();
            assert_eq!(plain.0, vec![Ok(200); 100]);
            if connections == Connections::Hoarded {
                assert_eq!(clients.connections(), 100);
            }
            event_loop.close(clients);
        }
        assert_eq!(event_loop.origin().unwrap().answered, 300);
    }

    #[test]
    fn an_open_loop_sends_what_is_due_and_then_stops() {
        let (mut event_loop, address) = served();
        let mut plain = Plain::default();
        let mut clients = Clients::new(load(address, Pace::PerSecond(1000.0), Connections::Kept));
        let started = Instant::now();
        let goes_on = |clients: &mut Clients, now: Instant| {
            if now >= started + Duration::from_millis(100) {
                clients.stop();
            }
            !clients.is_done()
        };
        event_loop.run(&mut clients, &mut plain, goes_on).unwrap();
        assert!(plain.0.len() >= 100 && plain.0.iter().all(|outcome| *outcome == Ok(200)), "{:?}", plain.0);
    }

    #[test]
    fn a_refused_connection_and_a_silent_one_are_told_apart() {
        let mut event_loop = EventLoop::new(None).unwrap();
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = silent.local_addr().unwrap();
        let mut plain = Plain::default();
        let hasty =
            Load { patience: Duration::from_millis(200), ..load(address, Pace::InAll(1, 1), Connections::Kept) };
        event_loop.run_to_end(hasty, &mut plain).unwrap();
        drop(silent);
        event_loop.run_to_end(load(address, Pace::InAll(1, 1), Connections::Kept), &mut plain).unwrap();
        assert_eq!(plain.0, [Err(Broken::TimedOut), Err(Broken::Refused)]);
    }
}
