//! Reading a request's head (RFC 9112, section 3).

use crate::{
    bytes::{target_end, token_end},
    connection::Options,
    fields::{Fields, One},
    framing::{Declared, Framing, malformed},
    host::is_host,
    limits::Limits,
    line::ends_line,
    method::Method,
    name::Name,
    refusal::Refusal,
    scan::{Head, Scan},
    target::Target,
    version::Version,
};

/// The head of a request that can be read in one way only.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it wants done.
    pub method: Method<'a>,
    /// What it is for.
    pub target: Target<'a>,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Every field line.
    pub fields: Fields<'a>,
    /// Where its body ends. Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether there is a `Content-Length`: a POST of length 0 says so, a GET without a body does not.
    pub declares_length: bool,
    /// The host it is for, a valid one: the authority of an absolute target, else the `Host` field. `None` in HTTP/1.0
    /// only.
    pub host: Option<&'a [u8]>,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body. Never in HTTP/1.0, which does not know it.
    pub expects_continue: bool,
    /// The protocols that it offers to switch to: the value of `Upgrade`, if it is there once, `Connection` names it,
    /// the version is HTTP/1.1, there is no body, and `h2c` is not among them. Otherwise there is nothing to forward of
    /// it.
    pub upgrade: Option<&'a [u8]>,
}

/// Reads the head of a request that is there as a whole, and nothing behind it. `scan` is cleared before.
///
/// # Errors
///
/// What is wrong with it; the module documentation of the crate says why nothing is mended.
pub fn parse_request<'a>(head: &'a [u8], scan: &'a mut Scan, limits: &Limits) -> Result<Request<'a>, Refusal> {
    Head::whole(head, scan, limits)?.request(limits)
}

impl<'a> Head<'a> {
    /// Judges the head of a request.
    ///
    /// # Errors
    ///
    /// What is wrong with it; the module documentation of the crate says why nothing is mended.
    pub fn request(&self, limits: &Limits) -> Result<Request<'a>, Refusal> {
        if !limits.allows_head_of(self.bytes().len()) {
            return Err(Refusal::HeadTooLarge);
        }
        let line = Line::parse(self.bytes(), limits)?;
        let fields = self.fields()?;
        let declared = Declared::parse(&fields, line.version)?;
        let framing = declared.framing_or(Framing::Empty);
        let options = fields.connection();
        Ok(Request {
            method: line.method,
            target: line.target,
            version: line.version,
            fields,
            framing,
            declares_length: matches!(declared, Declared::Length(_)),
            host: host(&fields, &line)?,
            keep_alive: line.version.keeps_alive(options),
            expects_continue: expects_continue(&fields)? && line.version == Version::Http11,
            upgrade: upgrade(&fields).filter(|_| line.version == Version::Http11 && framing == Framing::Empty),
        })
    }
}

/// `method SP request-target SP HTTP-version CRLF`, with single spaces.
struct Line<'a> {
    method: Method<'a>,
    target: Target<'a>,
    version: Version,
}

impl<'a> Line<'a> {
    fn parse(head: &'a [u8], limits: &Limits) -> Result<Self, Refusal> {
        // One empty line may be left over from a client's last message (RFC 9112, section 2.2).
        let from = if head.starts_with(b"\r\n") { 2 } else { 0 };
        let method_end = token_end(head, from);
        if method_end == from || head.get(method_end) != Some(&b' ') {
            return malformed("the request line: it must be a method, a target and a version, with one space between");
        }
        let target_from = method_end + 1;
        let target_end = target_end(head, target_from);
        if target_end - target_from > limits.target_max_bytes {
            return Err(Refusal::TargetTooLong);
        }
        if head.get(target_end) != Some(&b' ') {
            return malformed(why_no_target_end(head.get(target_end)));
        }
        let version = Version::parse(&head[target_end + 1..])?;
        if !ends_line(head, target_end + 1 + "HTTP/1.1".len()) {
            return malformed("the request line: CR LF must follow the version at once");
        }
        let method = Method::of(&head[from..method_end]);
        Ok(Self { method, target: Target::parse(&head[target_from..target_end], method)?, version })
    }
}

fn why_no_target_end(byte: Option<&u8>) -> &'static str {
    match byte {
        Some(b'#') => "the request target: a fragment is not sent; leave out the # and what follows",
        Some(b'\r' | b'\n') | None => "the request line: it must end with HTTP/1.1; HTTP/0.9 is not spoken",
        Some(_) => "the request target: only visible ASCII may stand in it; percent-encode the rest",
    }
}

/// RFC 9112, section 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0, and a host in it.
fn host<'a>(fields: &Fields<'a>, line: &Line<'a>) -> Result<Option<&'a [u8]>, Refusal> {
    let field = match fields.get(Name::Host) {
        One::One(host) if is_host(host) => Some(host),
        One::One(_) => return malformed("Host: it must be a host name or an address, and maybe a port"),
        One::Several => return malformed("Host: it must not be there twice"),
        One::Absent if line.version == Version::Http10 => None,
        One::Absent => return malformed("Host: it is missing, which HTTP/1.1 does not allow"),
    };
    Ok(match line.target {
        Target::Absolute { authority, .. } => Some(authority),
        Target::Origin(_) | Target::Asterisk => field,
    })
}

fn expects_continue(fields: &Fields<'_>) -> Result<bool, Refusal> {
    match fields.get(Name::Expect) {
        One::Absent => Ok(false),
        One::One(expectation) if expectation.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        One::One(_) | One::Several => Err(Refusal::UnknownExpectation),
    }
}

/// The value of `Upgrade`, if it is there once and `Connection` names it. Never with `h2c`: through such a tunnel,
/// requests would pass the gateway unseen, and RFC 9113, section 3.1, has given it up.
pub(crate) fn upgrade<'a>(fields: &Fields<'a>) -> Option<&'a [u8]> {
    let is_h2c = |protocol: &[u8]| protocol.eq_ignore_ascii_case(b"h2c");
    match fields.get(Name::Upgrade) {
        One::One(protocols) if fields.connection().upgrade && !protocols.is_empty() => {
            Some(protocols).filter(|protocols| !Options::split(protocols).any(is_h2c))
        }
        _ => None,
    }
}
