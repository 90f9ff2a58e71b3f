//! The instance's side in frames: an exchange is a stream of a connection that all exchanges with the instance share.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    future::{pending, poll_fn},
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http1::{Framing, Head, Refusal};

use super::{Connection, Frame, Incoming, Stream};
use crate::{
    instance::candidate::Candidate,
    io::buffered_stream::Read,
    message::request::UpstreamRequest,
    upstream::{connect_error::ConnectError, exchange::UpstreamExchange, failure::Kind, upstreams::Opening},
};

/// Which instances there are, by address; all clones are the same network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network(Rc<RefCell<HashMap<String, Host>>>);

/// One that listens.
#[derive(Debug, Default)]
struct Host {
    /// Else it refuses connections.
    is_listening: bool,
    /// It takes no connection, and refuses none.
    is_silent: bool,
    current: Option<Connection>,
    connections: usize,
    to_accept: VecDeque<Connection>,
    accepts: Option<Waker>,
}

/// An exchange with an instance.
#[derive(Debug)]
pub(crate) struct FrameExchange {
    stream: Stream,
    incoming: Incoming,
    has_sent_something: bool,
    /// How many of [`UpstreamRequest::bytes`] were sent.
    sent: usize,
    has_sent_end: bool,
}

// === impl Network ===

impl Network {
    /// From now on an instance listens at `address`.
    pub(in crate::tests) fn listen(&self, address: &str) {
        self.0.borrow_mut().entry(address.to_owned()).or_default().is_listening = true;
    }

    /// From now on connections to `address` are neither accepted nor refused.
    pub(in crate::tests) fn silence(&self, address: &str) {
        self.0.borrow_mut().entry(address.to_owned()).or_default().is_silent = true;
    }

    /// The process at `address` dies with its connection, and refuses others until it [listens](Self::listen) again.
    pub(in crate::tests) fn kill(&self, address: &str) {
        let connection = self.0.borrow_mut().get_mut(address).and_then(|host| {
            host.is_listening = false;
            host.current.take()
        });
        connection.into_iter().for_each(|connection| connection.close());
    }

    /// How many connections were ever opened to `address`, since it listens.
    pub(in crate::tests) fn connections(&self, address: &str) -> usize {
        self.0.borrow().get(address).map_or(0, |host| host.connections)
    }

    /// The next connection that the instance at `address` accepts.
    pub(in crate::tests) async fn accept(&self, address: &str) -> Option<Connection> {
        poll_fn(|cx| {
            let mut hosts = self.0.borrow_mut();
            let Some(host) = hosts.get_mut(address) else { return Poll::Ready(None) };
            if let Some(connection) = host.to_accept.pop_front() {
                return Poll::Ready(Some(connection));
            }
            host.accepts = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// An exchange on the connection that is there already.
    pub(crate) fn reuse(&self, candidate: &Candidate) -> Option<UpstreamExchange> {
        let hosts = self.0.borrow();
        let stream = hosts.get(&candidate.address().to_string())?.current.as_ref()?.open()?;
        Some(UpstreamExchange::Frames(Box::new(FrameExchange::new(stream))))
    }

    /// An exchange on a new connection, within `limit`.
    pub(crate) fn open(&self, candidate: &Candidate, limit: Duration) -> Opening {
        let address = candidate.address().to_string();
        match self.0.borrow_mut().get_mut(&address).filter(|host| host.is_listening) {
            None => {
                let refused = ConnectError::Connect(io::ErrorKind::ConnectionRefused.into());
                Box::pin(async move { Err(refused) })
            }
            Some(host) if host.is_silent => Box::pin(async move {
                let connected = tokio::time::timeout(limit, pending()).await;
                connected.map_err(|_| ConnectError::Timeout(limit))
            }),
            Some(host) => {
                let connection = Connection::default();
                host.current = Some(connection.clone());
                host.connections += 1;
                host.to_accept.push_back(connection.clone());
                host.accepts.take().into_iter().for_each(Waker::wake);
                Box::pin(async move {
                    let stream = connection.open();
                    let stream = stream.ok_or_else(|| ConnectError::Connect(io::ErrorKind::ConnectionReset.into()))?;
                    Ok(UpstreamExchange::Frames(Box::new(FrameExchange::new(stream))))
                })
            }
        }
    }
}

// === impl FrameExchange ===

impl FrameExchange {
    fn new(stream: Stream) -> Self {
        Self { stream, incoming: Incoming::default(), has_sent_something: false, sent: 0, has_sent_end: false }
    }

    pub(crate) fn poll_send(&mut self, request: &UpstreamRequest, cx: &mut Context<'_>) {
        let (head, bytes) = (request.head_bytes(), request.bytes());
        if self.sent < head {
            self.stream.send(Frame::Head(bytes[..head].to_vec()));
            (self.sent, self.has_sent_something) = (head, true);
        }
        while self.sent < bytes.len() {
            let Poll::Ready(Ok(count)) = self.stream.poll_send_data(cx, &bytes[self.sent..]) else { return };
            self.sent += count;
        }
        if request.is_complete() && !std::mem::replace(&mut self.has_sent_end, true) {
            self.stream.send(Frame::End);
        }
    }

    pub(crate) fn has_sent_all(&self, request: &UpstreamRequest) -> bool {
        self.sent == request.bytes().len() && (self.has_sent_end || !request.is_complete())
    }

    pub(crate) fn has_sent_something(&self) -> bool {
        self.has_sent_something
    }

    pub(crate) fn forget_sent(&mut self) {
        self.sent = 0;
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        self.incoming.poll_read(&self.stream, cx)
    }

    pub(crate) fn find_head(&self) -> bool {
        self.incoming.head.is_some()
    }

    pub(crate) fn head(&self) -> Option<Head<'_>> {
        self.incoming.head()
    }

    pub(crate) fn ended_before_head(&self) -> Kind {
        Kind::Closed(io::ErrorKind::UnexpectedEof.into())
    }

    pub(crate) fn end_interim(&mut self) {
        self.incoming.head = None;
    }

    /// A stream ends by itself, whatever the head says.
    pub(crate) fn begin_body(&mut self, _: Framing, _: bool) {
        self.end_interim();
    }

    pub(crate) fn is_reused(&self) -> bool {
        false
    }

    pub(crate) fn next_run(&self) -> Result<(), Refusal> {
        Ok(())
    }

    pub(crate) fn run(&self) -> &[u8] {
        &self.incoming.run
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.incoming.run.drain(..count);
    }

    pub(crate) fn close(&self) -> Result<(), Refusal> {
        if self.incoming.has_come { Ok(()) } else { Err(Refusal::Truncated) }
    }

    pub(crate) fn has_come(&self) -> bool {
        self.incoming.has_come
    }

    pub(crate) fn has_decoded_all(&self) -> bool {
        !self.stream.is_next(|_| true)
    }
}

impl Drop for FrameExchange {
    /// Ends the stream at the instance, and not the connection.
    fn drop(&mut self) {
        if !self.incoming.has_come || !self.has_sent_end {
            self.stream.send(Frame::Reset);
        }
    }
}
