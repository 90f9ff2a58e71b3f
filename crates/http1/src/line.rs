//! One field line (RFC 9112, section 5), as places in its head.

use std::ops::Range;

use crate::{
    bytes::{is_ows, name_end, text_end},
    name::{self, Name},
    refusal::Refusal,
};

/// It came in the one form that [`write::field`](crate::write::field) gives to all.
const CANONICAL: u8 = 1;
/// `_` stands in its name.
const UNDERSCORE: u8 = 2;

/// One field line, as it was noted when it came: what it is costs no second look at its bytes. [`Fields`] has them.
///
/// [`Fields`]: crate::Fields
#[derive(Debug, Clone, Copy)]
pub struct Line {
    name_at: u32,
    name_end: u32,
    value_at: u32,
    value_end: u32,
    id: Name,
    marks: u8,
}

// === impl Line ===

impl Line {
    /// The line that begins at `at`, and where the next one begins.
    ///
    /// Every position fits, because [`Limits::allows_head_of`](crate::limits::Limits) was asked up to `at`, and is
    /// asked for the next one before this line is used.
    #[inline]
    pub(crate) fn parse(head: &[u8], at: usize) -> Result<(Self, usize), Refusal> {
        let (colon, has_underscore) = name_end(head, at);
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
        let value_at = match head.get(colon + 1..) {
            // Nearly always, one space and then the value.
            Some([b' ', first, ..]) if *first > b' ' => colon + 2,
            _ => ows_end(head, colon + 1),
        };
        let end = text_end(head, value_at);
        if !ends_line(head, end) {
            return Err(Refusal::Malformed(why_no_line_end(head, end)));
        }
        let value_end = trimmed_end(head, value_at, end);
        // Exactly one space before the value and nothing behind it.
        let is_canonical = value_at == colon + 2 && head[colon + 1] == b' ' && value_end == end;
        let marks = u8::from(is_canonical) * CANONICAL + u8::from(has_underscore) * UNDERSCORE;
        let [name_at, name_end, value_at, value_end] = [at, colon, value_at, value_end].map(|n| n as u32);
        Ok((Self { name_at, name_end, value_at, value_end, id, marks }, end + 2))
    }

    /// Which field it is, if it is one that matters on the way.
    #[inline]
    pub fn id(&self) -> Name {
        self.id
    }

    /// Whether `_` stands in the name. CGI-like servers, WSGI among them, cannot tell it from `-`.
    #[inline]
    pub fn has_underscore(&self) -> bool {
        self.marks & UNDERSCORE != 0
    }

    /// Where the whole line stands, its end included, if it came in the one form.
    #[inline]
    pub(crate) fn canonical(&self) -> Option<Range<usize>> {
        (self.marks & CANONICAL != 0).then(|| self.name_at as usize..self.value_end as usize + 2)
    }

    /// The name as it was spelled.
    #[inline]
    pub(crate) fn name<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.name_at as usize..self.name_end as usize]
    }

    /// The value without the white space around it.
    #[inline]
    pub(crate) fn value<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.value_at as usize..self.value_end as usize]
    }
}

/// Behind the white space that begins at `from`.
#[inline]
fn ows_end(head: &[u8], mut from: usize) -> usize {
    while head.get(from).copied().is_some_and(is_ows) {
        from += 1;
    }
    from
}

/// Before the white space that ends at `end`.
#[inline]
fn trimmed_end(head: &[u8], from: usize, mut end: usize) -> usize {
    while end > from && is_ows(head[end - 1]) {
        end -= 1;
    }
    end
}

/// Why no name with a colon begins at `at`; the token there ends at `end`.
#[cold]
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
#[inline]
pub(crate) fn ends_line(head: &[u8], end: usize) -> bool {
    matches!(head.get(end..), Some([b'\r', b'\n', ..]))
}

/// Why the line does not end at `end`, where its text does.
#[cold]
pub(crate) fn why_no_line_end(head: &[u8], end: usize) -> &'static str {
    match head.get(end) {
        None => "the head: it must end with an empty line",
        Some(b'\n') => "a line: it must end with CR LF, not with LF alone",
        Some(b'\r') => "a line: CR may only stand before the LF that ends it",
        Some(_) => "a line: no control character may stand in it, apart from tabs in a value",
    }
}
