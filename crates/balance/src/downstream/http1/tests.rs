use std::{cell::RefCell, io::IoSlice, pin::Pin, rc::Rc, task::Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::{clock::Clock, io::buffers::Buffers, message::headers::Client};

/// A stream that takes everything, and keeps what each write was made of.
#[derive(Debug, Clone, Default)]
struct Writes(Rc<RefCell<Vec<Vec<usize>>>>);

impl AsyncRead for Writes {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Writes {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push(vec![bytes.len()]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let lengths: Vec<usize> = slices.iter().map(|slice| slice.len()).collect();
        let all = lengths.iter().sum();
        self.0.borrow_mut().push(lengths);
        Poll::Ready(Ok(all))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Writes {
    fn resets_on_drop(&self, _: bool) {}

    fn read_at_once(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_at_once(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_if_writable(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn has_error(&self) -> bool {
        false
    }

    fn may_be_readable(&self) -> bool {
        true
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// What the writes are made of in which a response leaves.
fn writes(length: BodyLength, runs: &[&[u8]]) -> Vec<Vec<usize>> {
    let writes = Writes::default();
    let clock = Rc::new(Clock::default());
    let timers = ConnectionTimers::new(Client::new("10.0.0.9".parse().unwrap(), false), clock);
    let mut client = BufferedStream::new(writes.clone(), Buffers::default());
    let mut exchange = Http1Exchange::new(&mut client, &timers, 0, 0);
    exchange.begin(&RequestMeta { keep_alive: true, ..RequestMeta::unknown() });
    exchange.respond(length, false, |out, _| out.extend_from_slice(HEAD));
    for run in runs {
        let rest = &run[exchange.take(run)..];
        if !rest.is_empty() {
            let sent = exchange.poll_send(&mut Context::from_waker(Waker::noop()), rest);
            assert!(matches!(sent, Poll::Ready(Ok(Sent { of_run, .. })) if of_run == rest.len()));
        }
    }
    exchange.end();
    exchange.poll_flush(&mut Context::from_waker(Waker::noop())).unwrap();
    writes.0.take()
}

#[test]
fn a_head_and_a_small_body_leave_in_one_write() {
    assert_eq!(writes(BodyLength::Known, &[&[7; 4096]]), [[HEAD.len() + 4096]]);
    assert_eq!(writes(BodyLength::Known, &[]), [[HEAD.len()]]);
}

#[test]
fn a_large_body_leaves_from_where_it_is_the_first_run_of_it_together_with_the_head() {
    let expected: [&[usize]; 2] = [&[HEAD.len(), 10_000], &[10_000]];
    assert_eq!(writes(BodyLength::Known, &[&[7; 10_000], &[7; 10_000]]), expected);
}

#[test]
fn chunks_that_have_come_together_leave_together() {
    let chunk = "3\r\none\r\n".len();
    let all = HEAD.len() + 2 * chunk + "0\r\n\r\n".len();
    assert_eq!(writes(BodyLength::Unknown, &[b"one", b"two"]), [[all]]);
}

#[test]
fn a_run_that_found_no_room_to_be_framed_never_leaves_without_its_frame() {
    let writes = Writes::default();
    let clock = Rc::new(Clock::default());
    let timers = ConnectionTimers::new(Client::new("10.0.0.9".parse().unwrap(), false), clock);
    let mut client = BufferedStream::new(writes.clone(), Buffers::default());
    let mut exchange = Http1Exchange::new(&mut client, &timers, 0, 0);
    exchange.begin(&RequestMeta { keep_alive: true, ..RequestMeta::unknown() });
    exchange.respond(BodyLength::Unknown, false, |out, _| out.extend_from_slice(HEAD));
    let much = vec![7; 64 * 1024];
    assert_eq!((exchange.take(&much), exchange.take(b"next")), (much.len(), 0));
    let sent = exchange.poll_send(&mut Context::from_waker(Waker::noop()), b"next");
    assert!(matches!(sent, Poll::Ready(Ok(Sent { of_run: 0, .. }))), "{sent:?}");
    assert_eq!(exchange.take(b"next"), 4, "there is room now");
    exchange.poll_flush(&mut Context::from_waker(Waker::noop())).unwrap();
    drop(exchange);
    let much = HEAD.len() + "10000\r\n".len() + much.len() + "\r\n".len();
    assert_eq!(writes.0.take(), [[much], ["4\r\nnext\r\n".len()]]);
}
