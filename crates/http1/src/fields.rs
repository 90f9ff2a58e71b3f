//! The field lines of a head (RFC 9112, section 5), as ranges of its bytes.

use std::{fmt, slice};

use crate::{
    bytes::{is_ows, text_end, token_end},
    connection::Options,
    limits::Limits,
    name::{self, Name},
    refusal::Refusal,
};

/// Where the fields of a head are noted. Keep one for each connection or thread: once it has grown to the number of
/// fields that usually come, parsing allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    slots: Vec<Slot>,
}

/// One field line: where its name and its trimmed value stand in the head.
#[derive(Debug, Clone, Copy)]
struct Slot {
    name_at: u32,
    name_len: u32,
    value_at: u32,
    value_len: u32,
    id: Name,
}

/// The fields of one head, in the order in which they came.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    head: &'a [u8],
    slots: &'a [Slot],
    /// The [`Name::bit`]s of the names that are there.
    seen: u64,
    connection: Options,
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
    /// The whole line as [`write::field`](crate::write::field) would write it, if that is how it came.
    canonical: Option<&'a [u8]>,
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

impl<'a> Fields<'a> {
    /// Reads the lines of `head` from `at` on, up to and with the empty line that must end it.
    ///
    /// # Errors
    ///
    /// The first line that is not as it must be.
    pub(crate) fn parse(head: &'a [u8], at: usize, scratch: &'a mut Scratch, limits: &Limits) -> Result<Self, Refusal> {
        let seen = scratch.fill(head, at, limits)?;
        let mut fields = Self { head, slots: &scratch.slots, seen, connection: Options::default() };
        if fields.has(Name::Connection) {
            fields.connection = Options::parse(fields.values(Name::Connection))?;
        }
        Ok(fields)
    }

    /// Each line, in order.
    pub fn iter(&self) -> Iter<'a> {
        Iter { head: self.head, slots: self.slots.iter() }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The field `id`, if it is there exactly once. For [`Name::Other`], ask [`iter`](Self::iter) instead.
    pub fn get(&self, id: Name) -> One<'a> {
        if !self.has(id) {
            return One::Absent;
        }
        let mut values = self.values(id);
        match (values.next(), values.next()) {
            (None, _) => One::Absent,
            (Some(value), None) => One::One(value),
            (Some(_), Some(_)) => One::Several,
        }
    }

    /// Whether `Connection` names `name`, in any case: such a field is for this connection only and is not forwarded
    /// (RFC 9110, section 7.6.1). Costs next to nothing when `Connection` is absent or says what it usually says.
    pub fn is_named_by_connection(&self, name: &[u8]) -> bool {
        if !self.connection.names_others {
            return self.connection.names_usual(name);
        }
        self.values(Name::Connection).any(|value| Options::split(value).any(|option| option.eq_ignore_ascii_case(name)))
    }

    /// What `Connection` says.
    pub(crate) fn connection(&self) -> Options {
        self.connection
    }

    /// Whether there is a line of that name.
    pub fn has(&self, id: Name) -> bool {
        self.seen & id.bit() != 0
    }

    fn values(&self, id: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let head = self.head;
        self.slots.iter().filter(move |slot| slot.id == id).map(move |slot| slot.value(head))
    }
}

impl Scratch {
    /// Notes every line; the set of names that were seen.
    fn fill(&mut self, head: &[u8], mut at: usize, limits: &Limits) -> Result<u64, Refusal> {
        self.slots.clear();
        let mut seen = 0;
        loop {
            if let Some([b'\r', b'\n']) = head.get(at..) {
                return Ok(seen);
            }
            let (slot, next) = Slot::parse(head, at)?;
            if self.slots.len() == limits.fields_max {
                return Err(Refusal::TooManyFields);
            }
            seen |= slot.id.bit();
            self.slots.push(slot);
            at = next;
        }
    }
}

impl Slot {
    /// The line that begins at `at`, and where the next one begins.
    fn parse(head: &[u8], at: usize) -> Result<(Self, usize), Refusal> {
        let colon = token_end(head, at);
        if colon == at || head.get(colon) != Some(&b':') {
            return Err(Refusal::Malformed(why_no_name(head, at, colon)));
        }
        let name = &head[at..colon];
        let id = Name::of(name);
        if id == Name::Other && name::resembles_framing(name) {
            return Err(Refusal::Malformed(
                "Content-Length and Transfer-Encoding: they are spelled with one hyphen, and with no other sign",
            ));
        }
        let mut from = colon + 1;
        while head.get(from).copied().is_some_and(is_ows) {
            from += 1;
        }
        let end = text_end(head, from);
        if !ends_line(head, end) {
            return Err(Refusal::Malformed(why_no_line_end(head, end)));
        }
        let value_len = head[from..end].iter().rposition(|byte| !is_ows(*byte)).map_or(0, |last| last + 1);
        Ok((Self::new(id, at, name.len(), from, value_len), end + 2))
    }

    /// Every position fits, because [`Limits::allows_head_of`] was asked before.
    fn new(id: Name, name_at: usize, name_len: usize, value_at: usize, value_len: usize) -> Self {
        let [name_at, name_len, value_at, value_len] = [name_at, name_len, value_at, value_len].map(|n| n as u32);
        Self { name_at, name_len, value_at, value_len, id }
    }

    fn field<'a>(&self, head: &'a [u8]) -> Field<'a> {
        Field { id: self.id, name: self.name(head), value: self.value(head), canonical: self.canonical(head) }
    }

    /// Exactly one space before the value and nothing behind it. That the line ends with CR LF is known.
    fn canonical<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        let from = self.name_at as usize;
        let colon = (self.name_at + self.name_len) as usize;
        let value_at = self.value_at as usize;
        let end = (self.value_at + self.value_len) as usize;
        let is_canonical = value_at == colon + 2 && head[colon + 1] == b' ' && ends_line(head, end);
        is_canonical.then(|| &head[from..end + 2])
    }

    fn name<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.name_at as usize..][..self.name_len as usize]
    }

    fn value<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.value_at as usize..][..self.value_len as usize]
    }
}

/// Why no name with a colon begins at `at`; the token there ends at `end`.
fn why_no_name(head: &[u8], at: usize, end: usize) -> &'static str {
    match head.get(end) {
        None => "the head: it must end with an empty line",
        Some(b' ' | b'\t') if end == at => "a field: it must not be folded over several lines; write it on one",
        Some(b' ' | b'\t') => "a field: no space may stand between its name and the colon",
        Some(b':') => "a field: its name is missing",
        Some(b'\n') => "a line: it must end with CR LF, not with LF alone",
        Some(b'\r') if end == at => "the head: its empty line must be CR LF, and nothing may follow it",
        Some(b'\r') => "a field: its colon is missing",
        Some(_) => "a field: its name may only have letters, digits and !#$%&'*+-.^_`|~",
    }
}

/// Whether CR LF stands at `end`.
pub(crate) fn ends_line(head: &[u8], end: usize) -> bool {
    matches!(head.get(end..), Some([b'\r', b'\n', ..]))
}

/// Why the line does not end at `end`, where its text does.
pub(crate) fn why_no_line_end(head: &[u8], end: usize) -> &'static str {
    match head.get(end) {
        None => "the head: it must end with an empty line",
        Some(b'\n') => "a line: it must end with CR LF, not with LF alone",
        Some(b'\r') => "a line: CR may only stand before the LF that ends it",
        Some(_) => "a line: no control character may stand in it, apart from tabs in a value",
    }
}

/// The lines of [`Fields`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    head: &'a [u8],
    slots: slice::Iter<'a, Slot>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let slot = self.slots.next()?;
        Some(slot.field(self.head))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
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

impl Field<'_> {
    /// Whether `_` stands in the name. CGI-like servers, WSGI among them, cannot tell it from `-`.
    pub fn has_underscore(&self) -> bool {
        memchr::memchr(b'_', self.name).is_some()
    }

    /// Appends the line in the one form that [`write::field`](crate::write::field) gives to all. A line that came in
    /// this form, as nearly all do, is copied as a whole.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.canonical {
            Some(line) => out.extend_from_slice(line),
            None => crate::write::field(out, self.name, self.value),
        }
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
            ("A: b c\td", "b c\td"),
        ] {
            let head = format!("{line}\r\nB: c\r\n\r\n");
            let mut scratch = Scratch::default();
            let fields = Fields::parse(head.as_bytes(), 0, &mut scratch, &Limits::default()).unwrap();
            let mut written = Vec::new();
            fields.iter().for_each(|field| field.write(&mut written));
            assert_eq!(String::from_utf8(written).unwrap(), format!("A: {value}\r\nB: c\r\n"), "{line:?}");
        }
    }
}
