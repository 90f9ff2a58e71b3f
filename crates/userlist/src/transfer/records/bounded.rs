//! The bytes of a table on their way to its reader: bounded, and with an eye on quotes.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::Bytes;

/// What a reader may have taken ahead of the record that it is at.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// Ends with an error instead of reading a record without an end into memory, or a quote without an end to the end of
/// the file; and lets the last line have an end.
pub(super) struct Bounded {
    input: Bytes,
    delimiter: u8,
    shared: Shared,
    has_ended: bool,
}

/// Why no more of a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// A record has too many bytes; within them a quote was open that begins on this line.
    #[error("a record is too long")]
    TooLong { open_quote: Option<u64> },
    /// The file ends within a quoted cell that begins on this line.
    #[error("a quote is not closed")]
    OpenQuote { line: u64 },
}

/// What the table's reader and its input both know.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Scan>>);

struct Scan {
    bytes_left: usize,
    line: u64,
    place: Place,
}

/// Where in a table a byte is. The reader has the same idea of it, and does not tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    CellStart,
    Cell,
    /// In a quoted cell that begins on this line.
    Quoted(u64),
    /// Behind a quote in a quoted cell: its end, or the first of two that stand for one.
    QuoteInQuoted(u64),
}

// === impl Bounded ===

impl Bounded {
    pub(super) fn new(input: Bytes, delimiter: u8) -> (Self, Shared) {
        let scan = Scan { bytes_left: 0, line: 1, place: Place::CellStart };
        let shared = Shared(Arc::new(Mutex::new(scan)));
        (Self { input, delimiter, shared: shared.clone(), has_ended: false }, shared)
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.input).poll_read(context, buffer);
        let shared = self.shared.clone();
        let mut scan = shared.lock();
        let read = &buffer.filled()[before..];
        scan.take(read, self.delimiter)?;
        let is_end = matches!(polled, Poll::Ready(Ok(()))) && read.is_empty() && buffer.remaining() > 0;
        if is_end && !self.has_ended {
            if let Some(line) = scan.open_quote() {
                return Poll::Ready(Err(io::Error::other(Stop::OpenQuote { line })));
            }
            self.has_ended = true;
            buffer.put_slice(b"\n");
        }
        polled
    }
}

// === impl Shared ===

impl Shared {
    /// A new record begins, of at most `bytes`.
    pub(super) fn begin_record(&self, bytes: usize) {
        self.lock().bytes_left = bytes + READ_AHEAD_BYTES;
    }

    fn lock(&self) -> MutexGuard<'_, Scan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Scan ===

impl Scan {
    fn take(&mut self, bytes: &[u8], delimiter: u8) -> io::Result<()> {
        for &byte in bytes {
            self.place = self.place.after(byte, delimiter, self.line);
            self.line += u64::from(byte == b'\n');
        }
        let too_long = || io::Error::other(Stop::TooLong { open_quote: self.open_quote() });
        self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or_else(too_long)?;
        Ok(())
    }

    fn open_quote(&self) -> Option<u64> {
        match self.place {
            Place::Quoted(line) => Some(line),
            Place::CellStart | Place::Cell | Place::QuoteInQuoted(_) => None,
        }
    }
}

// === impl Place ===

impl Place {
    /// RFC 4180, section 2, as `csv-core` reads it: a quote counts at the beginning of a cell only.
    fn after(self, byte: u8, delimiter: u8, line: u64) -> Self {
        match (self, byte) {
            (Self::Quoted(line), b'"') => Self::QuoteInQuoted(line),
            (Self::QuoteInQuoted(line), b'"') | (Self::Quoted(line), _) => Self::Quoted(line),
            (_, b'\n') => Self::CellStart,
            (_, byte) if byte == delimiter => Self::CellStart,
            (Self::CellStart, b'"') => Self::Quoted(line),
            (Self::CellStart | Self::Cell | Self::QuoteInQuoted(_), _) => Self::Cell,
        }
    }
}
