//! A file that comes compressed, and is not to become much more than came: what a few bytes unpack to has a bound.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use async_compression::tokio::bufread::GzipDecoder;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

/// The largest file of one request: 1 GiB. Its memory is that of one batch; the limit is for who sends without an end.
pub(super) const FILE_MAX_BYTES: u64 = 1 << 30;

/// How many times what came may come out. Lists of users become a tenth to a thirtieth; gzip makes a thousandth of
/// zeros.
const RATIO_MAX: u64 = 100;
/// What may come out of the first bytes, of which some repeat more than a whole file does.
const FREE_BYTES: u64 = 1 << 20;

/// The bytes of a gzip file (RFC 1952, of several members, too), bounded by [`FILE_MAX_BYTES`] and by what came in.
pub(super) struct Unpacked<R> {
    decoder: GzipDecoder<Counted<R>>,
    came: Arc<AtomicU64>,
    unpacked: u64,
}

/// Counts what is taken of it.
struct Counted<R> {
    input: R,
    taken: Arc<AtomicU64>,
}

// === impl Unpacked ===

impl<R: AsyncBufRead + Unpin> Unpacked<R> {
    pub(super) fn new(input: R) -> Self {
        let came = Arc::new(AtomicU64::new(0));
        let mut decoder = GzipDecoder::new(Counted { input, taken: Arc::clone(&came) });
        decoder.multiple_members(true);
        Self { decoder, came, unpacked: 0 }
    }
}

impl<R: AsyncBufRead + Unpin> AsyncRead for Unpacked<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.decoder).poll_read(context, buffer);
        self.unpacked += (buffer.filled().len() - before) as u64;
        let allowed = FREE_BYTES + self.came.load(Relaxed).saturating_mul(RATIO_MAX);
        if self.unpacked > allowed.min(FILE_MAX_BYTES) {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        polled
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(context, buffer)
    }
}

impl<R: AsyncBufRead + Unpin> AsyncBufRead for Counted<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().input).poll_fill_buf(context)
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        self.taken.fetch_add(count as u64, Relaxed);
        Pin::new(&mut self.input).consume(count);
    }
}
