//! One request at a time on one connection.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::Instant,
};

use mio::{Interest, Registry, Token, event::Event, net::TcpStream};

use super::{load::Broken, wire};

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    job: Option<Job>,
    out: Vec<u8>,
    written: usize,
    /// The start of a response that has not arrived whole.
    input: Vec<u8>,
    /// What is still to come of a body whose head is in `input`.
    body_left: Option<usize>,
    served: u64,
    closes: bool,
}

/// What a connection is busy with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) due: Instant,
    pub(super) sent: Option<Instant>,
}

/// What came of looking after a connection.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing to report yet.
    Waiting,
    /// The response to the job is complete; its head is given.
    Answered(Job, u16, Vec<u8>),
    /// The connection is over; with it the job, if there was one.
    Over(Option<(Job, Broken)>),
}

// === impl Connection ===

impl Connection {
    /// Starts connecting. `closes`: the response ends the connection.
    pub(super) fn open(target: SocketAddr, registry: &Registry, token: Token, closes: bool) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        let _best_effort = stream.set_nodelay(true);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let out = Vec::new();
        let input = Vec::new();
        Ok(Self { stream, job: None, out, written: 0, input, body_left: None, served: 0, closes })
    }

    /// What it is busy with.
    pub(super) fn job(&self) -> Option<Job> {
        self.job
    }

    /// Sends a request; `write` appends its bytes.
    pub(super) fn start(&mut self, number: u64, due: Instant, write: impl FnOnce(&mut Vec<u8>)) -> Step {
        self.out.clear();
        self.written = 0;
        write(&mut self.out);
        self.job = Some(Job { number, due, sent: None });
        self.write()
    }

    /// Goes on after the kernel said that something can be done.
    pub(super) fn ready(&mut self, event: &Event, scratch: &mut [u8]) -> Step {
        if event.is_writable()
            && self.written < self.out.len()
            && let over @ Step::Over(_) = self.write()
        {
            return over;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            return self.read(event.is_read_closed() || event.is_error(), scratch);
        }
        Step::Waiting
    }

    fn write(&mut self) -> Step {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(bytes) => {
                    self.written += bytes;
                    if let Some(job) = &mut self.job {
                        job.sent.get_or_insert_with(Instant::now);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A response may be waiting all the same: a refusal that came before the whole request was taken.
                Err(error) if error.kind() == ErrorKind::BrokenPipe && self.served == 0 => break,
                Err(error) => return self.over(Some(error.kind())),
            }
        }
        Step::Waiting
    }

    fn read(&mut self, is_closed: bool, scratch: &mut [u8]) -> Step {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return self.over(None),
                Ok(bytes) => match self.take(&scratch[..bytes]) {
                    Ok(Some((status, head))) => return self.answered(status, head),
                    // Less than there was room for: the kernel has no more, and will tell when it has.
                    Ok(None) if bytes < scratch.len() && !is_closed => return Step::Waiting,
                    Ok(None) => {}
                    Err(wire::Malformed) => return Step::Over(self.job.take().map(|job| (job, Broken::Malformed))),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Waiting,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.over(Some(error.kind())),
            }
        }
    }

    /// Takes bytes of a response; its status and head when it is complete.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<(u16, Vec<u8>)>, wire::Malformed> {
        if let Some(left) = &mut self.body_left {
            *left = left.saturating_sub(bytes.len());
        } else if self.input.is_empty() {
            self.begin(bytes)?;
        } else {
            self.input.extend_from_slice(bytes);
            let input = std::mem::take(&mut self.input);
            self.begin(&input)?;
        }
        if self.body_left != Some(0) {
            return Ok(None);
        }
        self.body_left = None;
        let head = std::mem::take(&mut self.input);
        Ok(Some((wire::status(&head)?, head)))
    }

    /// Keeps the head, when it is complete, and how much of the body is to come; else all of `bytes`.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), wire::Malformed> {
        match wire::extent(bytes)? {
            None => self.input.extend_from_slice(bytes),
            Some(extent) => {
                self.input.extend_from_slice(&bytes[..extent.head]);
                self.closes |= extent.closes;
                self.body_left = Some((extent.head + extent.body).saturating_sub(bytes.len()));
            }
        }
        Ok(())
    }

    fn answered(&mut self, status: u16, head: Vec<u8>) -> Step {
        self.served += 1;
        match self.job.take() {
            Some(job) => Step::Answered(job, status, head),
            // An answer without a request: the server closes a connection that was kept too long.
            None => Step::Over(None),
        }
    }

    fn over(&mut self, error: Option<ErrorKind>) -> Step {
        let broken = match error {
            Some(ErrorKind::ConnectionRefused) => Broken::Refused,
            _ if !self.input.is_empty() || self.body_left.is_some() => Broken::Cut,
            _ if self.served > 0 => Broken::ClosedWhenReused,
            _ => Broken::ClosedWhenNew,
        };
        Step::Over(self.job.take().map(|job| (job, broken)))
    }

    /// Whether a response ends it.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Gives it up.
    pub(super) fn close(mut self, registry: &Registry) {
        // It fails only when it was never registered.
        let _ = registry.deregister(&mut self.stream);
    }
}
