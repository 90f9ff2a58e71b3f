//! A response as it leaves for the client: its head, written anew.
//!
//! No I/O, and no framing: the fields that say how the message is framed are the [framing's](FramingFields).

use http1::{Field, Framing, Name, Response, write};

use crate::message::{cors::Cors, headers, prefix::Prefix, request::RequestMeta};

/// Whether the head says how long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// It does, or there is no body.
    Known,
    /// The framing has to say where it ends.
    Unknown,
}

/// The fields of a response's head that are its framing's to choose. A framing that needs none has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FramingFields {
    /// `Transfer-Encoding: chunked`.
    pub(crate) is_chunked: bool,
    /// `Connection`.
    pub(crate) connection: Option<&'static [u8]>,
}

/// What the gateway adds to a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatewayHeaders<'a> {
    pub(crate) date: &'a [u8],
    /// A `Set-Cookie` for the next request.
    pub(crate) cookie: Option<&'a [u8]>,
    /// What is put back into its fields.
    pub(crate) prefix: Option<Prefix<'a>>,
}

// === impl BodyLength ===

impl BodyLength {
    /// That of a response with this framing.
    pub(crate) fn of(framing: Framing) -> Self {
        match framing {
            Framing::Empty | Framing::Length(_) => Self::Known,
            Framing::Chunked | Framing::UntilClose => Self::Unknown,
        }
    }
}

// === impl FramingFields ===

impl FramingFields {
    /// Writes what ends a head.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        if let Some(connection) = self.connection {
            write::field(out, b"Connection", connection);
        }
        write::end(out);
    }
}

/// Writes the head of a response.
pub(crate) fn head(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    facts: &RequestMeta,
    own: GatewayHeaders<'_>,
    framing: FramingFields,
) {
    begin(out, response, own.prefix, &facts.cors);
    facts.cors.write_for_service(out);
    if framing.is_chunked {
        write::field(out, b"Transfer-Encoding", b"chunked");
    } else if let Some(length) = response.declared_length.filter(|_| may_tell_length(response)) {
        write::field_number(out, b"Content-Length", length);
    }
    write::field(out, b"X-Request-Id", facts.id.as_bytes());
    if !response.fields.has(Name::Date) {
        write::field(out, b"Date", own.date);
    }
    if let Some(cookie) = own.cookie {
        write::field(out, b"Set-Cookie", cookie);
    }
    framing.end(out);
}

/// Writes an interim response (1xx) for the client (RFC 9110, section 15.2).
pub(crate) fn interim(bytes: &mut Vec<u8>, response: &Response<'_>, prefix: Prefix<'_>) {
    begin(bytes, response, Some(prefix), &Cors::Unsaid);
    write::end(bytes);
}

/// Writes the head of a 101, after which the connection is a tunnel.
pub(crate) fn switching(
    bytes: &mut Vec<u8>,
    response: &Response<'_>,
    protocol: &[u8],
    facts: &RequestMeta,
    prefix: Prefix<'_>,
) {
    begin(bytes, response, Some(prefix), &Cors::Unsaid);
    write::field(bytes, b"X-Request-Id", facts.id.as_bytes());
    write::field(bytes, b"Connection", b"upgrade");
    write::field(bytes, b"Upgrade", protocol);
    write::end(bytes);
}

/// Whether it is a stream of server-sent events, which lasts for as long as the client listens.
pub(crate) fn is_event_stream(response: &Response<'_>) -> bool {
    let mut types = response.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"content-type"));
    let is = |value: &[u8]| {
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    types.next().is_some_and(|field| is(field.value))
}

/// Writes the status line, and the fields that pass. Most pass as they came, together; only where one of them may be
/// changed, each is looked at.
fn begin(out: &mut Vec<u8>, response: &Response<'_>, prefix: Option<Prefix<'_>>, cors: &Cors) {
    let fields = &response.fields;
    let prefix = prefix.filter(|_| Prefix::concerns(fields));
    if prefix.is_none() && !cors.is_for_service() {
        return response.write(out, |line| headers::TO_CLIENT.contains(line.id()));
    }
    write::status_line(out, response.status, response.reason);
    let passes = |field: &Field<'_>| {
        headers::TO_CLIENT.contains(field.id)
            && !fields.is_named_by_connection(field.name)
            && !cors.replaces(field.name)
    };
    for field in fields.iter().filter(passes) {
        match &prefix {
            Some(prefix) => prefix.write(out, &field),
            None => write::field(out, field.name, field.value),
        }
    }
}

/// A response without content has no length either (RFC 9110, section 8.6); that to a HEAD, and a 304, have another's.
fn may_tell_length(response: &Response<'_>) -> bool {
    response.status >= 200 && response.status != 204
}
