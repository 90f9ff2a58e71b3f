//! Reading a head as it comes, each byte of it once.
//!
//! A head that is there as a whole, as nearly all are, is read in one go: where it ends is found by reading its lines,
//! not before. One that comes in pieces goes on where it was: of a line that has not come whole, only how far it was
//! searched for its end is kept, so a peer that drips one byte at a time costs no more than twice the bytes that it
//! sends.
//!
//! A line is judged when it is whole. What is wrong with it then stays wrong whatever follows, so nothing more is
//! waited for: a client that speaks something else learns it now, instead of after a deadline.

use crate::{
    bytes::line_feed, connection::Options, limits::Limits, line::Line, name::Name, names::Names, refusal::Refusal,
};

/// How far the head at the front of some bytes was read, and where its lines are.
///
/// Keep it beside the bytes, and [clear](Self::clear) it when the head is used up. Once it has seen as many lines as
/// usually come, nothing is allocated.
///
/// ```
/// use http1::{Limits, Scan};
///
/// let (mut scan, limits) = (Scan::default(), Limits::default());
/// assert_eq!(scan.read(b"GET / HTTP/1.1\r\nHost", &limits), None);
/// assert_eq!(scan.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", &limits), Some(27));
/// let head = scan.head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET").expect("it is complete");
/// assert_eq!(head.request(&limits)?.host, Some(&b"a"[..]));
/// # Ok::<(), http1::Refusal>(())
/// ```
#[derive(Debug)]
pub struct Scan {
    /// Where the line begins that comes next; behind the head once it is over.
    at: usize,
    /// No line ends between `at` and here.
    searched: usize,
    /// Where the fields begin; 0 until the start line has come.
    fields_at: usize,
    /// Whether there is nothing more to read: it is complete, or not acceptable.
    is_over: bool,
    refusal: Option<Refusal>,
    pub(crate) lines: Vec<Line>,
    /// The names that are there.
    pub(crate) seen: Names,
    /// The names that are there more than once.
    pub(crate) several: Names,
    /// For each name that is there, its first line.
    first: [u32; Name::COUNT],
    /// What `Connection` says.
    pub(crate) connection: Options,
}

/// A head that was read, with the bytes it was read from.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    bytes: &'a [u8],
    scan: &'a Scan,
}

// === impl Scan ===

impl Default for Scan {
    fn default() -> Self {
        Self {
            at: 0,
            searched: 0,
            fields_at: 0,
            is_over: false,
            refusal: None,
            lines: Vec::new(),
            seen: Names::default(),
            several: Names::default(),
            first: [0; Name::COUNT],
            connection: Options::default(),
        }
    }
}

impl Scan {
    /// Forgets the head: the next one is read from its start.
    #[inline]
    pub fn clear(&mut self) {
        if self.at | self.searched == 0 {
            return;
        }
        self.lines.clear();
        self.at = 0;
        self.searched = 0;
        self.fields_at = 0;
        self.is_over = false;
        self.refusal = None;
        self.seen = Names::default();
        self.several = Names::default();
        self.connection = Options::default();
        // `first` counts for what is seen alone.
    }

    /// Reads on, in `bytes` that have the old ones still in front: the length of the head once it is complete, or of
    /// what makes it unacceptable; [`Head::request`] and [`Head::response`] judge it then. `None` when more bytes are
    /// needed.
    pub fn read(&mut self, bytes: &[u8], limits: &Limits) -> Option<usize> {
        if self.is_over {
            return Some(self.at);
        }
        // A line that had not come whole, and still has not.
        if self.searched > self.at && line_feed(bytes, self.searched).is_none() {
            self.searched = bytes.len();
            return None;
        }
        if self.fields_at == 0 {
            self.start_line(bytes)?;
        }
        while !self.is_over {
            self.line(bytes, limits)?;
        }
        Some(self.at)
    }

    /// What was read of `bytes`, once [`read`](Self::read) has found its length, with the same bytes in front.
    #[inline]
    pub fn head<'a>(&'a self, bytes: &'a [u8]) -> Option<Head<'a>> {
        let bytes = bytes.get(..self.at).filter(|_| self.is_over)?;
        Some(Head { bytes, scan: self })
    }

    /// Goes to the end of the start line, which is read when the head is judged.
    fn start_line(&mut self, bytes: &[u8]) -> Option<()> {
        loop {
            let Some(end) = line_feed(bytes, self.at.max(self.searched)) else {
                self.searched = bytes.len();
                return None;
            };
            let is_line = end > self.at && bytes[end - 1] == b'\r';
            let is_empty = is_line && end == self.at + 1;
            let is_first = self.at == 0;
            self.at = end + 1;
            // One empty line may be left over from a client's last message (RFC 9112, section 2.2).
            if is_empty && is_first {
                continue;
            }
            self.fields_at = self.at;
            if !is_line || is_empty {
                self.refuse(self.at, Refusal::Malformed("the start line: it must end with CR LF, and not be empty"));
            }
            return Some(());
        }
    }

    /// Reads the next line, the empty one included. `None`: it has not come whole.
    #[inline]
    fn line(&mut self, bytes: &[u8], limits: &Limits) -> Option<()> {
        if let Some([b'\r', b'\n', ..]) = bytes.get(self.at..) {
            self.end(bytes, limits);
            return Some(());
        }
        match Line::parse(bytes, self.at) {
            Ok((_, next)) if !limits.allows_head_of(next) => self.refuse(next, Refusal::HeadTooLarge),
            Ok((_, next)) if self.lines.len() == limits.fields_max => self.refuse(next, Refusal::TooManyFields),
            Ok((line, next)) => self.note(line, next),
            Err(refusal) => match line_feed(bytes, self.at) {
                Some(end) => self.refuse(end + 1, refusal),
                None => {
                    self.searched = bytes.len();
                    return None;
                }
            },
        }
        Some(())
    }

    #[inline]
    fn note(&mut self, line: Line, next: usize) {
        let id = line.id();
        if self.seen.contains(id) {
            self.several = self.several.with(id);
        } else {
            self.first[id as usize] = self.lines.len() as u32;
            self.seen = self.seen.with(id);
        }
        self.lines.push(line);
        self.at = next;
    }

    /// The empty line has come.
    #[inline]
    fn end(&mut self, bytes: &[u8], limits: &Limits) {
        self.at += 2;
        self.is_over = true;
        if !limits.allows_head_of(self.at) {
            self.refusal = Some(Refusal::HeadTooLarge);
        } else if self.seen.contains(Name::Connection) {
            let values = self.lines.iter().filter(|line| line.id() == Name::Connection).map(|line| line.value(bytes));
            match Options::parse(values) {
                Ok(options) => self.connection = options,
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
    }

    /// Nothing that follows `at` makes the head acceptable.
    #[cold]
    fn refuse(&mut self, at: usize, refusal: Refusal) {
        self.at = at;
        self.is_over = true;
        self.refusal = Some(refusal);
    }

    /// The first line of that name.
    #[inline]
    pub(crate) fn first(&self, id: Name) -> Option<&Line> {
        self.lines.get(self.first[id as usize] as usize).filter(|_| self.seen.contains(id))
    }
}

// === impl Head ===

impl<'a> Head<'a> {
    /// One that is there as a whole, and nothing behind it.
    ///
    /// # Errors
    ///
    /// It is not.
    pub(crate) fn whole(bytes: &'a [u8], scan: &'a mut Scan, limits: &Limits) -> Result<Self, Refusal> {
        scan.clear();
        let len = scan.read(bytes, limits);
        let head = scan.head(bytes).ok_or(Refusal::Malformed("the head: it must end with an empty line"))?;
        let is_whole = len == Some(bytes.len()) || head.refusal().is_some();
        is_whole
            .then_some(head)
            .ok_or(Refusal::Malformed("the head: its empty line must be CR LF, and nothing may follow it"))
    }

    /// Its bytes, from the start line to the empty line.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(crate) fn scan(&self) -> &'a Scan {
        self.scan
    }

    /// What was wrong with its lines, if something was.
    #[inline]
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.scan.refusal
    }

    /// Where the fields begin.
    #[inline]
    pub(crate) fn fields_at(&self) -> usize {
        self.scan.fields_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<usize> {
        Scan::default().read(bytes, &Limits::default())
    }

    #[test]
    fn a_head_ends_with_its_empty_line() {
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n"), Some(27));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn one_empty_line_in_front_is_no_end_but_two_are() {
        assert_eq!(read(b"\r\nGET / HTTP/1.1\r\n\r\n"), Some(20));
        assert_eq!(read(b"\r\n"), None);
        assert_eq!(read(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(4));
    }

    #[test]
    fn a_line_that_cannot_become_right_ends_the_waiting() {
        assert_eq!(read(b"GET / HTTP/1.1\nHost: a"), Some(15));
        assert_eq!(read(b"\nGET /"), Some(1));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), Some(24));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost\r\nA: b"), Some(22));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\0b"), None, "a line that is not whole is not judged");
    }

    #[test]
    fn a_dripping_peer_gets_the_same_answer_and_each_byte_is_searched_once() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
        let mut scan = Scan::default();
        for len in 0..27 {
            assert_eq!(scan.read(&bytes[..len], &Limits::default()), None);
            assert_eq!(scan.at.max(scan.searched), len);
        }
        assert_eq!(scan.read(&bytes[..27], &Limits::default()), Some(27));
    }

    #[test]
    fn a_scan_that_is_cleared_is_like_new() {
        let mut scan = Scan::default();
        for end in ["\r\nConnection: close, x-a\r\n\r\n", "\r\nno colon, but as many bytes\n"] {
            let bytes = ["GET / HTTP/1.1\r\nHost: a\r\nHost: b", end].concat().into_bytes();
            scan.read(&bytes, &Limits::default()).unwrap();
            scan.clear();
            let lines = Vec::with_capacity(scan.lines.capacity());
            let fresh = Scan { lines, first: scan.first, ..Scan::default() };
            assert_eq!(format!("{scan:?}"), format!("{fresh:?}"));
        }
    }
}
