//! Reading a response's head (RFC 9112, section 4).

use crate::{
    bytes::text_end,
    fields::Fields,
    framing::{Declared, Framing, malformed},
    limits::Limits,
    line::{self, ends_line, why_no_line_end},
    method::Method,
    refusal::Refusal,
    request::upgrade,
    scan::{Head, Scan},
    version::Version,
    write,
};

/// The head of a response that can be read in one way only.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// 100 to 999. Below 200 it is interim, but for 101, and the final one follows.
    pub status: u16,
    /// The words behind the status. May be empty.
    pub reason: &'a [u8],
    /// Every field line.
    pub fields: Fields<'a>,
    /// Where its body ends, as the request's method and the status have it.
    pub framing: Framing,
    /// Whether the connection can carry another request once the body is read. Never after [`Framing::UntilClose`].
    pub keep_alive: bool,
    /// `Content-Length`, also where there is no body to it: of a response to HEAD and of a 304 it tells the length that
    /// a GET would have brought.
    pub declared_length: Option<u64>,
    /// With a 101, the protocol that follows: the value of `Upgrade`, if it is there once and `Connection` names it.
    pub upgrade: Option<&'a [u8]>,
}

/// Reads the head of a response to a request with `request_method` that is there as a whole, and nothing behind it.
/// `scan` is cleared before.
///
/// # Errors
///
/// What is wrong with it. The connection to the instance is of no further use then.
pub fn parse_response<'a>(
    head: &'a [u8],
    scan: &'a mut Scan,
    limits: &Limits,
    request_method: &Method<'_>,
) -> Result<Response<'a>, Refusal> {
    Head::whole(head, scan, limits)?.response(limits, request_method)
}

impl<'a> Head<'a> {
    /// Judges the head of a response to a request with `request_method`.
    ///
    /// # Errors
    ///
    /// What is wrong with it. The connection to the instance is of no further use then.
    pub fn response(&self, limits: &Limits, request_method: &Method<'_>) -> Result<Response<'a>, Refusal> {
        if !limits.allows_head_of(self.bytes().len()) {
            return Err(Refusal::HeadTooLarge);
        }
        let line = Line::parse(self.bytes())?;
        let fields = self.fields()?;
        let declared = Declared::parse(&fields, line.version)?;
        let framing = framing(line.status, declared, request_method)?;
        Ok(Response {
            version: line.version,
            status: line.status,
            reason: line.reason,
            fields,
            framing,
            keep_alive: line.version.keeps_alive(fields.connection()) && framing != Framing::UntilClose,
            declared_length: if let Declared::Length(length) = declared { Some(length) } else { None },
            upgrade: upgrade(&fields).filter(|_| line.status == 101),
        })
    }
}

// === impl Response ===

impl Response<'_> {
    /// Appends the status line, then each line that `passes`, as [`Fields::write`] does. A status line that came as
    /// [`write::status_line`] would write it is copied together with the lines behind it.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, passes: impl FnMut(&line::Line) -> bool) {
        let line_bytes = "HTTP/1.1 200 ".len() + self.reason.len() + "\r\n".len();
        let is_canonical = self.version == Version::Http11 && self.fields.at() == line_bytes;
        if !is_canonical {
            write::status_line(out, self.status, self.reason);
        }
        self.fields.write_behind(0..if is_canonical { line_bytes } else { 0 }, out, passes);
    }
}

/// `HTTP-version SP status-code [ SP reason-phrase ] CRLF`. The RFC wants the second space even before no reason;
/// servers leave it out, and there is only one way to read that.
struct Line<'a> {
    version: Version,
    status: u16,
    reason: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(head: &'a [u8]) -> Result<Self, Refusal> {
        let version = Version::parse(head)?;
        let status = match head.get(8..12) {
            Some([b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                [a, b, c].into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
            }
            _ => {
                return malformed("the status line: a status of three digits must follow the version, after one space");
            }
        };
        let from = match head.get(12) {
            Some(b' ') => 13,
            Some(b'\r') => 12,
            _ => return malformed("the status line: a space or CR LF must follow the status"),
        };
        let end = text_end(head, from);
        if !ends_line(head, end) {
            return malformed(why_no_line_end(head, end));
        }
        Ok(Self { version, status, reason: &head[from..end] })
    }
}

/// RFC 9112, section 6.3. A body is declared where none may be, by a 1xx or 204: the next parser could believe it.
fn framing(status: u16, declared: Declared, request_method: &Method<'_>) -> Result<Framing, Refusal> {
    match (status, declared) {
        (100..=199 | 204, Declared::Chunked) => {
            malformed("Transfer-Encoding: it must not be in a response with status 1xx or 204")
        }
        (100..=199 | 204, Declared::Length(1..)) => {
            malformed("Content-Length: a response with status 1xx or 204 has no content")
        }
        (100..=199 | 204 | 304, _) => Ok(Framing::Empty),
        _ if *request_method == Method::Head => Ok(Framing::Empty),
        // A tunnel: what follows is no body, whatever is declared.
        (200..=299, _) if *request_method == Method::Connect => Ok(Framing::UntilClose),
        _ => Ok(declared.framing_or(Framing::UntilClose)),
    }
}
