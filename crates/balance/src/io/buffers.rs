//! Buffers that a connection owns only while there is something in them.
//!
//! A connection that waits, for its next request or for an instance, has nothing to keep: it gives its buffer back, and the
//! next one that reads gets the same, still warm in the cache. So ten thousand idle connections cost no buffer at all, and a
//! busy core works with a few. One stock per core, the last returned first out.

use std::{cell::RefCell, rc::Rc};

use http1::{Head, Limits, Scan};

/// How much is read at once: a head with a small body in one system call, a large body in few.
pub(crate) const BUFFER_BYTES: usize = 32 * 1024;
/// Unused buffers that a core keeps; more are given back to the allocator.
const KEPT_MAX: usize = 64;

/// Bytes in the order of their arrival, taken from the front.
///
/// What was read of a head lives beside its bytes, so that neither outlives the other, and a connection that waits has
/// nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// All of it is initialised; what counts is `start..end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Of the head at the front.
    scan: Scan,
}

/// A core's stock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers(Rc<Stock>);

#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a connection has room for a pointer, and it changes hands as one")]
struct Stock {
    read: RefCell<Vec<Box<Buffer>>>,
    written: RefCell<Vec<Vec<u8>>>,
}

// === impl Buffer ===

impl Buffer {
    /// What is in it.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads on in the head at the front: its length, once it is [complete or unacceptable](Scan::read).
    pub(crate) fn find_head(&mut self, limits: &Limits) -> Option<usize> {
        let Self { bytes, start, end, scan } = self;
        scan.read(&bytes[*start..*end], limits)
    }

    /// The head at the front, once it was [found](Self::find_head).
    pub(crate) fn head(&self) -> Option<Head<'_>> {
        self.scan.head(self.filled())
    }

    /// Takes `count` bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        self.scan.clear();
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Where to read to; at least one byte, and no more than make `max_bytes` altogether. `None`: it is full.
    pub(crate) fn room(&mut self, max_bytes: usize) -> Option<&mut [u8]> {
        let length = self.end - self.start;
        if length >= max_bytes {
            return None;
        }
        if self.end == self.bytes.len() {
            // First what was taken makes room, then the allocator.
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, length);
            if self.end == self.bytes.len() {
                self.bytes.resize((length * 2).max(BUFFER_BYTES), 0);
            }
        }
        let until = self.bytes.len().min(self.start + max_bytes.max(BUFFER_BYTES));
        Some(&mut self.bytes[self.end..until])
    }

    /// `count` bytes were read into the [room](Self::room).
    pub(crate) fn advance(&mut self, count: usize) {
        self.end += count;
    }
}

// === impl Buffers ===

impl Buffers {
    /// An empty buffer for reading.
    pub(crate) fn buffer(&self) -> Box<Buffer> {
        self.0.read.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back, with whatever is in it.
    pub(crate) fn put_buffer(&self, mut buffer: Box<Buffer>) {
        (buffer.start, buffer.end) = (0, 0);
        buffer.scan.clear();
        let mut kept = self.0.read.borrow_mut();
        // One that has grown for a large head is not kept.
        if buffer.bytes.len() == BUFFER_BYTES && kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }

    /// How many buffers for reading are in stock.
    #[cfg(test)]
    pub(crate) fn unused(&self) -> usize {
        self.0.read.borrow().len()
    }

    /// An empty vector for writing.
    pub(crate) fn vec(&self) -> Vec<u8> {
        self.0.written.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a vector back, with whatever is in it.
    pub(crate) fn put_vec(&self, mut vec: Vec<u8>) {
        vec.clear();
        let mut kept = self.0.written.borrow_mut();
        if (1..=2 * BUFFER_BYTES).contains(&vec.capacity()) && kept.len() < KEPT_MAX {
            kept.push(vec);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut Buffer, bytes: &[u8], max_bytes: usize) -> usize {
        let Some(room) = buffer.room(max_bytes) else { return 0 };
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        buffer.advance(count);
        count
    }

    #[test]
    fn what_was_read_is_there_in_order_until_it_is_taken() {
        let mut buffer = Buffer::default();
        let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut written, mut taken) = (0, Vec::new());
        while taken.len() < sent.len() {
            written += read(&mut buffer, &sent[written..], 40_000);
            let some = buffer.filled().len().div_ceil(3);
            taken.extend_from_slice(&buffer.filled()[..some]);
            buffer.consume(some);
        }
        assert!(taken == sent && buffer.is_empty());
    }

    #[test]
    fn a_head_is_found_where_it_has_come_and_the_next_one_behind_it() {
        let (mut buffer, limits) = (Buffer::default(), Limits::default());
        let host = |buffer: &Buffer| {
            let head = buffer.head()?.request(&limits).unwrap();
            head.host.map(<[u8]>::to_vec)
        };
        for part in ["GET / HTTP/1.1\r\nHo", "st: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n"] {
            assert_eq!((buffer.find_head(&limits), host(&buffer)), (None, None));
            read(&mut buffer, part.as_bytes(), BUFFER_BYTES);
        }
        assert_eq!((buffer.find_head(&limits), host(&buffer)), (Some(27), Some(b"a".to_vec())));
        buffer.consume(27);
        assert_eq!((buffer.find_head(&limits), host(&buffer)), (None, None));
        read(&mut buffer, b"\r\n", BUFFER_BYTES);
        assert_eq!((buffer.find_head(&limits), host(&buffer)), (Some(27), Some(b"b".to_vec())));
    }

    #[test]
    fn a_full_buffer_has_no_room() {
        let mut buffer = Buffer::default();
        while read(&mut buffer, &[0; 4096], 100_000) > 0 {}
        assert!((100_000..=100_000 + BUFFER_BYTES).contains(&buffer.filled().len()), "{}", buffer.filled().len());
    }

    #[test]
    fn buffers_come_back_empty_and_grown_ones_are_let_go() {
        let buffers = Buffers::default();
        let mut small = buffers.buffer();
        read(&mut small, b"abc", BUFFER_BYTES);
        let mut large = buffers.buffer();
        while read(&mut large, &[0; 4096], 100_000) > 0 {}
        buffers.put_buffer(small);
        buffers.put_buffer(large);
        assert_eq!(buffers.0.read.borrow().len(), 1);
        assert!(buffers.buffer().is_empty());
        let mut vec = buffers.vec();
        vec.push(1);
        buffers.put_vec(vec);
        assert!(buffers.vec().is_empty());
    }
}
