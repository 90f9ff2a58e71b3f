//! The field lines of a head (RFC 9112, section 5): asked for by name, and passed on.

use std::{fmt, ops::Range, slice};

use crate::{connection::Options, line::Line, name::Name, names::Names, refusal::Refusal, scan::Head, write};

/// The fields of one head, in the order in which they came.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    head: Head<'a>,
}

/// One field line.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// Which field it is, if it is one that matters on the way.
    pub id: Name,
    /// The name as it was spelled.
    pub name: &'a [u8],
    /// The value without the white space around it. May be empty.
    pub value: &'a [u8],
    /// Whether `_` stands in the name.
    has_underscore: bool,
}

/// What is there of a field that should be there once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum One<'a> {
    /// No such line.
    Absent,
    /// Exactly one line, with this value.
    One(&'a [u8]),
    /// More lines than one, which for most fields is an error.
    Several,
}

// === impl Head ===

impl<'a> Head<'a> {
    /// Its fields.
    ///
    /// # Errors
    ///
    /// What is wrong with its lines.
    #[inline]
    pub(crate) fn fields(self) -> Result<Fields<'a>, Refusal> {
        self.refusal().map_or(Ok(Fields { head: self }), Err)
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Where they begin in their head.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.head.fields_at()
    }

    /// Each line, in order.
    pub fn iter(&self) -> Iter<'a> {
        Iter { head: self.head.bytes(), lines: self.lines().iter() }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }

    /// The field `id`, if it is there exactly once. For [`Name::Other`], ask [`iter`](Self::iter) instead.
    #[inline]
    pub fn get(&self, id: Name) -> One<'a> {
        match self.head.scan().first(id) {
            None => One::Absent,
            Some(_) if self.head.scan().several.contains(id) => One::Several,
            Some(line) => One::One(line.value(self.head.bytes())),
        }
    }

    /// Whether there is a line of that name.
    #[inline]
    pub fn has(&self, id: Name) -> bool {
        self.head.scan().seen.contains(id)
    }

    /// Whether there is a line of one of these names.
    #[inline]
    pub fn has_any(&self, names: Names) -> bool {
        self.head.scan().seen.meets(names)
    }

    /// Whether `Connection` names `name`, in any case: such a field is for this connection only and is not forwarded
    /// (RFC 9110, section 7.6.1). Costs next to nothing when `Connection` is absent or says what it usually says.
    pub fn is_named_by_connection(&self, name: &[u8]) -> bool {
        let options = self.connection();
        if !options.names_others {
            return options.names_usual(name);
        }
        let lines = self.lines().iter().filter(|line| line.id() == Name::Connection);
        let mut options = lines.flat_map(|line| Options::split(line.value(self.head.bytes())));
        options.any(|option| option.eq_ignore_ascii_case(name))
    }

    /// What `Connection` says.
    #[inline]
    pub(crate) fn connection(&self) -> Options {
        self.head.scan().connection
    }

    /// Appends each line that `passes` and that `Connection` does not name, in the one form that
    /// [`write::field`] gives to all. Neighbours that came in this form, as nearly all do, are
    /// copied together.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, passes: impl FnMut(&Line) -> bool) {
        self.write_behind(0..0, out, passes);
    }

    /// The same behind a part of the head that is copied as it came.
    #[inline]
    pub(crate) fn write_behind(&self, start: Range<usize>, out: &mut Vec<u8>, mut passes: impl FnMut(&Line) -> bool) {
        let head = self.head.bytes();
        let names_lines = self.connection() != Options::default();
        // What is copied together next.
        let mut span = start;
        for line in self.lines() {
            if !passes(line) || (names_lines && self.is_named_by_connection(line.name(head))) {
                continue;
            }
            match line.canonical() {
                Some(range) if range.start == span.end => span.end = range.end,
                canonical => {
                    out.extend_from_slice(&head[span]);
                    span = canonical.unwrap_or_else(|| {
                        write::field(out, line.name(head), line.value(head));
                        0..0
                    });
                }
            }
        }
        out.extend_from_slice(&head[span]);
    }

    #[inline]
    fn lines(&self) -> &'a [Line] {
        &self.head.scan().lines
    }
}

/// The lines of [`Fields`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    head: &'a [u8],
    lines: slice::Iter<'a, Line>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let line = self.lines.next()?;
        let (name, value) = (line.name(self.head), line.value(self.head));
        Some(Field { id: line.id(), name, value, has_underscore: line.has_underscore() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lines.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &Fields<'a> {
    type Item = Field<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

// === impl Field ===

impl Field<'_> {
    /// Whether `_` stands in the name. CGI-like servers, WSGI among them, cannot tell it from `-`.
    pub fn has_underscore(&self) -> bool {
        self.has_underscore
    }
}

/// Names and lengths only: values are cookies and passwords.
impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ({} bytes)", self.name.escape_ascii(), self.value.len())
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::Limits, scan::Scan};

    /// What is written of `lines` when those whose name begins with `-` do not pass.
    fn written(lines: &str) -> String {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let mut scan = Scan::default();
        assert_eq!(scan.read(head.as_bytes(), &Limits::default()), Some(head.len()));
        let fields = scan.head(head.as_bytes()).unwrap().fields().unwrap();
        let mut out = Vec::new();
        fields.write(&mut out, |line| !line.name(head.as_bytes()).starts_with(b"-"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_written_in_one_form_however_it_came() {
        for (line, value) in [
            ("A: b", "b"),
            ("A:b", "b"),
            ("A:  b", "b"),
            ("A:\tb", "b"),
            ("A: b ", "b"),
            ("A: ", ""),
            ("A:", ""),
            ("A:   ", ""),
            ("A: b c\td", "b c\td"),
        ] {
            assert_eq!(written(&format!("{line}\r\nB: c\r\n")), format!("A: {value}\r\nB: c\r\n"), "{line:?}");
        }
    }

    #[test]
    fn what_passes_is_written_in_order_whatever_stands_between() {
        for (lines, expected) in [
            ("", ""),
            ("-A: a\r\n", ""),
            ("A: a\r\nB: b\r\nC: c\r\n", "A: a\r\nB: b\r\nC: c\r\n"),
            ("-A: a\r\nB: b\r\n-C: c\r\nD: d\r\nE: e\r\n-F: f\r\n", "B: b\r\nD: d\r\nE: e\r\n"),
            ("A: a\r\nB:b\r\nC: c\r\n-D:d\r\nE:e \r\nF: f\r\n", "A: a\r\nB: b\r\nC: c\r\nE: e\r\nF: f\r\n"),
            (
                "A: a\r\nConnection: b, c\r\nB: b\r\nD: d\r\nc:c\r\nE: e\r\n",
                "A: a\r\nConnection: b, c\r\nD: d\r\nE: e\r\n",
            ),
            ("Close: a\r\nConnection: close\r\nB: b\r\n", "Connection: close\r\nB: b\r\n"),
        ] {
            assert_eq!(written(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_field_is_asked_for_by_its_name() {
        let head = b"GET / HTTP/1.1\r\nCookie: a\r\nhOST: h\r\nX: y\r\nCookie: b\r\n\r\n";
        let mut scan = Scan::default();
        scan.read(head, &Limits::default()).unwrap();
        let fields = scan.head(head).unwrap().fields().unwrap();
        assert_eq!((fields.get(Name::Host), fields.get(Name::Cookie)), (One::One(b"h"), One::Several));
        assert_eq!(fields.get(Name::Date), One::Absent);
        assert!(fields.has_any(Names::of(&[Name::Date, Name::Host])) && !fields.has_any(Names::of(&[Name::Date])));
    }
}
