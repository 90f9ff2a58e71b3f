//! Writing several pieces with as little system call as possible.
//!
//! A head and a small body are two pieces. `writev` sends them at once, but `send` of one piece is the cheaper call by more
//! than it costs to copy a few kilobytes together first.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{io::AsyncWrite, net::TcpStream};

/// Up to here copying wins.
const COPY_MAX_BYTES: usize = 4096;

thread_local! {
    /// Where pieces are put together. One per thread is enough: nothing is kept in it.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(COPY_MAX_BYTES));
}

/// Writes `slices`, or a first part of them.
pub(crate) fn poll_write(
    mut stream: Pin<&mut TcpStream>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [single] = slices {
        return stream.poll_write(cx, single);
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    if total > COPY_MAX_BYTES {
        return stream.poll_write_vectored(cx, slices);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        slices.iter().for_each(|slice| scratch.extend_from_slice(slice));
        stream.as_mut().poll_write(cx, scratch)
    })
}
