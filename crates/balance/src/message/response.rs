//! A response as it leaves for the client: its head written once, its body as it comes.
//!
//! No I/O: bytes of an instance go in, bytes for the client come out. A body whose end the head tells passes from the one
//! buffer to the other socket as it is, without a copy, but for a small piece that leaves together with the head; one that
//! comes in chunks, or ends with its connection, is framed again. Chunk extensions and trailers end here.

use http1::{BodyDecoder, Field, Fields, Framing, Name, One, Refusal as Http, Response, write};

use crate::message::{
    cors::Cors,
    headers,
    prefix::Prefix,
    request::{RequestMeta, UpstreamRequest},
};

/// A piece up to this size is copied behind the head: one small copy is cheaper than a system call with two parts.
const COPIED_MAX_BYTES: usize = 4 * 1024;
/// So much may wait to be written before more is framed.
const WAITING_MAX_BYTES: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct DownstreamResponse {
    /// What leaves next: heads, frames, small pieces.
    bytes: Vec<u8>,
    written: usize,
    /// After `bytes`, so many of the instance's unread bytes leave as they are.
    ready: usize,
    body: BodyDecoder,
    is_chunked: bool,
    /// Whether the connection to the client ends with it.
    pub(crate) is_last: bool,
    /// Whether nothing but the end of the connection tells the client where it ends.
    pub(crate) is_unframed: bool,
    /// Whether the instance's connection can carry another request after it.
    pub(crate) keeps_upstream: bool,
}

/// What the gateway adds to a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatewayHeaders<'a> {
    pub(crate) date: &'a [u8],
    /// Whether the client's connection is to end for a reason of ours.
    pub(crate) is_last: bool,
    /// A `Set-Cookie` for the next request.
    pub(crate) cookie: Option<&'a [u8]>,
    /// What is put back into its fields.
    pub(crate) prefix: Option<Prefix<'a>>,
}

// === impl DownstreamResponse ===

impl DownstreamResponse {
    /// Writes the head into `bytes`, behind interim responses that may wait there.
    pub(crate) fn new(
        mut bytes: Vec<u8>,
        response: &Response<'_>,
        facts: &RequestMeta,
        own: GatewayHeaders<'_>,
    ) -> Self {
        let ends_with_connection = matches!(response.framing, Framing::UntilClose | Framing::Chunked);
        let is_chunked = ends_with_connection && !facts.is_http_1_0;
        let is_unframed = ends_with_connection && facts.is_http_1_0;
        let is_last = own.is_last || !facts.keep_alive || is_unframed;
        write::status_line(&mut bytes, response.status, response.reason);
        fields(&mut bytes, &response.fields, own.prefix, &facts.cors);
        facts.cors.write_for_service(&mut bytes);
        if is_chunked {
            write::field(&mut bytes, b"Transfer-Encoding", b"chunked");
        } else if let Some(length) = response.declared_length.filter(|_| may_tell_length(response)) {
            write::field_number(&mut bytes, b"Content-Length", length);
        }
        write::field(&mut bytes, b"X-Request-Id", facts.id.as_bytes());
        if let One::Absent = response.fields.get(Name::Date) {
            write::field(&mut bytes, b"Date", own.date);
        }
        if let Some(cookie) = own.cookie {
            write::field(&mut bytes, b"Set-Cookie", cookie);
        }
        connection(&mut bytes, is_last, facts);
        write::end(&mut bytes);
        let keeps_upstream = response.keep_alive && response.framing != Framing::UntilClose;
        let body = BodyDecoder::new(response.framing);
        Self { bytes, written: 0, ready: 0, body, is_chunked, is_last, is_unframed, keeps_upstream }
    }

    /// Takes in what the instance has sent of the body, unless some of it waits to be written; returns how much was used
    /// up.
    ///
    /// # Errors
    ///
    /// The body is not framed as it should be.
    pub(crate) fn feed(&mut self, unread: &[u8]) -> Result<usize, Http> {
        let mut used = 0;
        while self.ready == 0 && !self.body.is_at_end() && self.bytes.len() - self.written < WAITING_MAX_BYTES {
            let piece = self.body.decode(&unread[used..])?;
            if piece.consumed == 0 {
                break;
            }
            let data = &unread[used..used + piece.consumed][piece.data.clone()];
            let passes_as_it_is = data.len() == piece.consumed && !self.is_chunked;
            let leaves_with_head = data.len() <= COPIED_MAX_BYTES && !self.bytes.is_empty();
            if passes_as_it_is && !leaves_with_head {
                self.ready = data.len();
                break;
            }
            if self.is_chunked {
                write::chunk(&mut self.bytes, data);
            } else {
                self.bytes.extend_from_slice(data);
            }
            used += piece.consumed;
        }
        self.end_chunks();
        Ok(used)
    }

    /// The instance has closed its connection.
    ///
    /// # Errors
    ///
    /// [`Http::Truncated`]: that was not the end of the body.
    pub(crate) fn close(&mut self) -> Result<(), Http> {
        self.body.close()?;
        self.end_chunks();
        Ok(())
    }

    /// The instance's connection has failed; whether that was the end of the body all the same. Who answers before it has read the
    /// whole request resets its connection by closing it (RFC 9112, section 9.6), and a body that only the end of the
    /// connection delimits is complete with any end (section 8).
    pub(crate) fn close_by_reset(&mut self, request: &UpstreamRequest) -> bool {
        request.has_body() && self.close().is_ok()
    }

    fn end_chunks(&mut self) {
        if self.body.is_at_end() && std::mem::take(&mut self.is_chunked) {
            self.bytes.extend_from_slice(write::LAST_CHUNK);
        }
    }

    /// What leaves next: bytes of its own, then of the instance's `unread` ones.
    pub(crate) fn next<'a>(&'a self, unread: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        (&self.bytes[self.written..], &unread[..self.ready])
    }

    /// `count` bytes of [`next`](Self::next) have left; returns how many of the unread ones are used up thereby.
    pub(crate) fn wrote(&mut self, count: usize) -> usize {
        let own = count.min(self.bytes.len() - self.written);
        self.written += own;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        self.ready -= count - own;
        count - own
    }

    /// Whether nothing of the instance's `unread` bytes is still to be [fed](Self::feed).
    pub(crate) fn has_taken_in(&self, unread: &[u8]) -> bool {
        self.ready == unread.len()
    }

    /// Whether something waits to be written.
    pub(crate) fn has_next(&self) -> bool {
        self.ready > 0 || !self.bytes.is_empty()
    }

    /// Whether the whole body has come from the instance.
    pub(crate) fn is_read(&self) -> bool {
        self.body.is_at_end()
    }

    /// Whether everything has left.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_read() && !self.has_next()
    }

    /// What has been written of it and not left yet: its head at first.
    pub(crate) fn own_bytes(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The buffer, for the next response.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Writes an interim response (1xx) for the client (RFC 9110, section 15.2).
pub(crate) fn interim(bytes: &mut Vec<u8>, response: &Response<'_>, prefix: Prefix<'_>) {
    write::status_line(bytes, response.status, response.reason);
    fields(bytes, &response.fields, Some(prefix), &Cors::Unsaid);
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
    write::status_line(bytes, response.status, response.reason);
    fields(bytes, &response.fields, Some(prefix), &Cors::Unsaid);
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

fn fields(bytes: &mut Vec<u8>, fields: &Fields<'_>, prefix: Option<Prefix<'_>>, cors: &Cors) {
    let prefix = prefix.filter(|_| Prefix::concerns(fields));
    let passes = |field: &Field<'_>| headers::passes_to_client(field, fields) && !cors.replaces(field.name);
    for field in fields.iter().filter(passes) {
        match &prefix {
            Some(prefix) => prefix.write(bytes, &field),
            None => field.write(bytes),
        }
    }
}

/// What the client is told about its connection.
pub(crate) fn connection(bytes: &mut Vec<u8>, is_last: bool, facts: &RequestMeta) {
    if is_last {
        write::field(bytes, b"Connection", b"close");
    } else if facts.is_http_1_0 {
        write::field(bytes, b"Connection", b"keep-alive");
    }
}

/// A response without content has no length either (RFC 9110, section 8.6); that to a HEAD, and a 304, tell another's.
fn may_tell_length(response: &Response<'_>) -> bool {
    response.status >= 200 && response.status != 204
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Method, Scratch, find_head_end, parse_request, parse_response};
    use proptest::prelude::*;

    use super::*;
    use crate::message::request_id::RequestId;

    fn facts(request: &str) -> RequestMeta {
        let mut scratch = Scratch::default();
        let request = parse_request(request.as_bytes(), &mut scratch, &Limits::default()).unwrap();
        RequestMeta::of(&request, RequestId::settle(&request.fields))
    }

    fn get() -> RequestMeta {
        facts("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: id-1\r\n\r\n")
    }

    const OWN: GatewayHeaders<'_> =
        GatewayHeaders { date: b"Sat, 21 Nov 2026 12:00:00 GMT", is_last: false, cookie: None, prefix: None };

    /// Everything that leaves when the instance sends `pieces`, and whether that was the end.
    fn answered(facts: &RequestMeta, pieces: &[&[u8]], closes: bool) -> (Vec<u8>, bool) {
        let all: Vec<u8> = pieces.concat();
        let end = find_head_end(&all, &mut 0).unwrap();
        let mut scratch = Scratch::default();
        let method = if facts.is_head { Method::Head } else { Method::Get };
        let response = parse_response(&all[..end], &mut scratch, &Limits::default(), &method).unwrap();
        let mut answer = DownstreamResponse::new(Vec::new(), &response, facts, OWN);
        let (mut out, mut start, mut until) = (Vec::new(), end, 0);
        for piece in pieces.iter().map(|piece| piece.len()).chain([0]) {
            until += piece;
            loop {
                start += answer.feed(&all[start.min(until)..until.max(start)]).unwrap();
                let (own, theirs) = answer.next(&all[start..until.max(start)]);
                // As a socket that takes little would.
                let both: Vec<u8> = own.iter().chain(theirs).copied().take(7).collect();
                if both.is_empty() {
                    break;
                }
                start += answer.wrote(both.len());
                out.extend(both);
            }
        }
        if closes && answer.close().is_ok() {
            out.extend(answer.next(&[]).0);
            answer.wrote(answer.next(&[]).0.len());
        }
        (out, answer.is_complete())
    }

    fn text(facts: &RequestMeta, response: &str, closes: bool) -> String {
        let (out, is_complete) = answered(facts, &[response.as_bytes()], closes);
        assert!(is_complete, "{response}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_body_with_a_length_passes_as_it_is() {
        let response = "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 5\r\nKeep-Alive: 3\r\n\r\nhello";
        let expected = "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 5\r\nX-Request-Id: id-1\r\n\
                        Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\nhello";
        assert_eq!(text(&get(), response, false), expected);
    }

    #[test]
    fn chunks_are_framed_again_without_extensions_and_trailers() {
        let response =
            "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
        let expected = "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\nX-Request-Id: id-1\r\n\r\n\
                        5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(text(&get(), response, false), expected);
    }

    #[test]
    fn a_body_that_ends_with_its_connection_is_chunked_for_the_client() {
        let answer = text(&get(), "HTTP/1.1 200 OK\r\n\r\nall", true);
        assert!(answer.ends_with("\r\n\r\n3\r\nall\r\n0\r\n\r\n") && !answer.contains("close"), "{answer}");
    }

    #[test]
    fn an_old_client_gets_no_chunks_but_the_end_of_the_connection() {
        let old = facts("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = text(&old, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n", false);
        assert!(answer.ends_with("Connection: close\r\n\r\nall"), "{answer}");
        let answer = text(&old, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall", false);
        assert!(answer.ends_with("Connection: keep-alive\r\n\r\nall"), "{answer}");
    }

    #[test]
    fn a_response_without_content_has_none_whatever_it_says() {
        let head = facts("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = text(&head, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", false);
        assert!(answer.contains("Content-Length: 1000\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        let answer = text(&get(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", false);
        assert!(answer.contains("Content-Length: 1000\r\n"), "{answer}");
    }

    #[test]
    fn a_body_that_breaks_off_is_not_completed() {
        for response in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
            let response = format!("HTTP/1.1 200 OK\r\n{response}");
            let (out, is_complete) = answered(&get(), &[response.as_bytes()], true);
            assert!(!is_complete && !out.ends_with(b"0\r\n\r\n"), "{response}");
        }
    }

    proptest! {
        #[test]
        fn however_a_body_arrives_all_of_it_leaves(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..6000), 1..6),
            chunked: bool,
        ) {
            let body: Vec<u8> = pieces.concat();
            let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let head = if chunked { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { &length };
            let mut sent = vec![head.as_bytes().to_vec()];
            for piece in &pieces {
                let mut framed = Vec::new();
                if chunked { write::chunk(&mut framed, piece) } else { framed.extend_from_slice(piece) }
                sent.push(framed);
            }
            if chunked { sent.push(write::LAST_CHUNK.to_vec()) }
            let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
            let (out, is_complete) = answered(&get(), &sent, false);
            prop_assert!(is_complete);
            let head = find_head_end(&out, &mut 0).unwrap();
            let mut decoder = BodyDecoder::new(if chunked { Framing::Chunked } else { Framing::Length(body.len() as u64) });
            let (mut left, mut unframed) = (&out[head..], Vec::new());
            while !decoder.is_at_end() {
                let piece = decoder.decode(left).unwrap();
                unframed.extend_from_slice(&left[piece.data]);
                left = &left[piece.consumed..];
            }
            prop_assert!(left.is_empty() && unframed == body);
        }
    }
}
