//! The client's side in frames: an exchange is a stream, and each is served by a task of its own.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http1::{Head, Refusal};
use tokio::{io::DuplexStream, task::spawn_local};

use super::{Connection, Frame, Incoming, Stream};
use crate::{
    downstream::{
        deadlines::ConnectionTimers,
        exchange::{DownstreamExchange, Ended, Sent},
    },
    io::buffered_stream::{BufferedStream, Read},
    message::{
        headers::Client,
        request::RequestMeta,
        response::{BodyLength, FramingFields},
    },
    proxy::context::Gateway,
};

/// An exchange with a client.
#[derive(Debug)]
struct FrameExchange {
    stream: Stream,
    incoming: Incoming,
    /// What waits to be sent.
    waiting: VecDeque<Frame>,
    /// How much waited when the response began, once it has.
    begins_at: Option<usize>,
    has_ended: bool,
}

/// Serves all streams of a client's connection, until it ends.
pub(in crate::tests) async fn serve(connection: Connection, gateway: Rc<Gateway>) {
    while let Some(stream) = connection.accept().await {
        spawn_local(serve_stream(stream, Rc::clone(&gateway)));
    }
}

async fn serve_stream(stream: Stream, gateway: Rc<Gateway>) {
    let client = Client::new("10.0.0.9".parse().unwrap(), false);
    let timers = Rc::new(ConnectionTimers::new(client, Rc::clone(&gateway.clock)));
    gateway.downstreams.add(&timers);
    let mut exchange = FrameExchange {
        stream,
        incoming: Incoming::default(),
        waiting: VecDeque::new(),
        begins_at: None,
        has_ended: false,
    };
    let has_head = poll_fn(|cx| {
        timers.remember(cx.waker());
        while exchange.incoming.head.is_none() {
            if ready!(exchange.poll_read(cx)).is_err() {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    });
    if has_head.await {
        let ended = {
            let mut handling = pin!(gateway.handle(&mut exchange, &timers));
            poll_fn(|cx| {
                timers.remember(cx.waker());
                handling.as_mut().poll(cx)
            })
            .await
        };
        if ended != Ended::Whole {
            exchange.stream.send(Frame::Reset);
        }
    }
    gateway.downstreams.remove(&timers);
}

impl DownstreamExchange for FrameExchange {
    type Stream = DuplexStream;

    fn head(&self) -> Option<Head<'_>> {
        self.incoming.head()
    }

    fn begin(&mut self, _: &RequestMeta) {
        self.incoming.head = None;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        self.incoming.poll_read(&self.stream, cx)
    }

    fn next_run(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn run(&self) -> &[u8] {
        &self.incoming.run
    }

    fn consume(&mut self, count: usize) {
        self.incoming.run.drain(..count);
    }

    fn has_come(&self) -> bool {
        self.incoming.has_come
    }

    fn remaining(&self) -> Option<u64> {
        self.incoming.has_come.then_some(0)
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_frame(cx).map(drop)
    }

    fn has_half_closed(&self) -> bool {
        false
    }

    fn send_continue(&mut self) {
        self.interim(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
    }

    fn interim(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.begins_at.is_none() {
            let mut head = Vec::new();
            write(&mut head);
            self.waiting.push_back(Frame::Head(head));
        }
    }

    fn respond(&mut self, _: BodyLength, _: bool, write: impl FnOnce(&mut Vec<u8>, FramingFields)) {
        self.begins_at = Some(self.waiting.len());
        let mut head = Vec::new();
        write(&mut head, FramingFields { is_chunked: false, connection: None });
        self.waiting.push_back(Frame::Head(head));
    }

    fn switch(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.respond(BodyLength::Known, false, |out, _| write(out));
    }

    fn abandon(&mut self) {
        if let Some(begins_at) = self.begins_at.take() {
            self.waiting.truncate(begins_at);
            self.has_ended = false;
        }
    }

    fn start(&mut self) {}

    fn take(&mut self, _: &[u8]) -> usize {
        0
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.waiting.push_back(Frame::End);
        }
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, run: &[u8]) -> Poll<io::Result<Sent>> {
        let waiting = self.waiting.len();
        self.waiting.drain(..).for_each(|frame| self.stream.send(frame));
        if run.is_empty() {
            return Poll::Ready(Ok(Sent { bytes: waiting, of_run: 0 }));
        }
        match self.stream.poll_send_data(cx, run) {
            Poll::Pending if waiting > 0 => Poll::Ready(Ok(Sent { bytes: waiting, of_run: 0 })),
            sent => sent.map_ok(|count| Sent { bytes: waiting + count, of_run: count }),
        }
    }

    fn send_at_once(&mut self, _: &[u8]) -> Poll<io::Result<Sent>> {
        Poll::Pending
    }

    fn complete(&mut self) {}

    fn tunnel(&mut self) -> Option<&mut BufferedStream<DuplexStream>> {
        None
    }
}
