//! A response as it leaves in HTTP/1.1: its head, its body as it comes.
//!
//! No I/O: runs of a body go in, bytes for the client come out. A body whose length is in the head passes from the one
//! buffer to the other socket as it is, without a copy, but for a small run that leaves together with the head. One
//! whose length is not known is written in chunks; for a client of HTTP/1.0, which knows none, it ends with the
//! connection.

use http1::write;

use crate::message::{
    request::RequestMeta,
    response::{BodyLength, FramingFields},
};

/// A run up to this size is copied behind the head: one small copy is cheaper than a system call with two parts.
const COPIED_MAX_BYTES: usize = 4 * 1024;
/// So much may wait to be written before more is framed.
const WAITING_MAX_BYTES: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct ResponseWriter {
    /// What leaves next: heads, frames, small runs.
    bytes: Vec<u8>,
    written: usize,
    /// Where in `bytes` the response begins that has begun.
    begins_at: Option<usize>,
    framing: Framing,
    client: Client,
    is_last: bool,
}

/// How a body leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// As long as the head says.
    Length,
    Chunks,
    /// It ends with the connection.
    UntilClose,
}

/// What the request says about how its client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Client {
    /// It speaks HTTP/1.0, which has no chunks and no interim responses.
    is_http_1_0: bool,
    /// It wants to keep its connection.
    keep_alive: bool,
}

// === impl ResponseWriter ===

impl ResponseWriter {
    /// Writes into `bytes`, which are empty.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let client = Client { is_http_1_0: false, keep_alive: false };
        Self { bytes, written: 0, begins_at: None, framing: Framing::Length, client, is_last: true }
    }

    /// It answers this request.
    pub(super) fn answer(&mut self, request: &RequestMeta) {
        self.client = Client { is_http_1_0: request.is_http_1_0, keep_alive: request.keep_alive };
    }

    /// An interim response, unless the client knows none, or the final one has begun.
    pub(super) fn interim(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.client.is_http_1_0 && self.begins_at.is_none() {
            write(&mut self.bytes);
        }
    }

    /// Writes the head of the final response.
    pub(super) fn begin(&mut self, length: BodyLength, is_last: bool, write: impl FnOnce(&mut Vec<u8>, FramingFields)) {
        self.framing = match length {
            BodyLength::Known => Framing::Length,
            BodyLength::Unknown if self.client.is_http_1_0 => Framing::UntilClose,
            BodyLength::Unknown => Framing::Chunks,
        };
        self.is_last = is_last || !self.client.keep_alive || self.framing == Framing::UntilClose;
        self.begins_at = Some(self.bytes.len());
        let connection: Option<&[u8]> = match (self.is_last, self.client.is_http_1_0) {
            (true, _) => Some(b"close"),
            (false, true) => Some(b"keep-alive"),
            (false, false) => None,
        };
        write(&mut self.bytes, FramingFields { is_chunked: self.framing == Framing::Chunks, connection });
    }

    pub(super) fn abandon(&mut self) {
        if let Some(begins_at) = self.begins_at.take() {
            self.bytes.truncate(begins_at);
        }
    }

    /// Whether nothing but the end of the connection shows the client where the body ends.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Whether the connection ends with it.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Whether the client has asked for the end of the connection.
    pub(super) fn is_asked_to_close(&self) -> bool {
        !self.client.keep_alive
    }

    /// See [`DownstreamExchange::take`](crate::downstream::exchange::DownstreamExchange::take).
    pub(super) fn take(&mut self, run: &[u8]) -> usize {
        if run.is_empty() || self.waiting().len() >= WAITING_MAX_BYTES {
            return 0;
        }
        let is_small = run.len() <= COPIED_MAX_BYTES;
        match self.framing {
            Framing::Chunks => write::chunk(&mut self.bytes, run),
            Framing::Length if is_small && !self.bytes.is_empty() => self.bytes.extend_from_slice(run),
            // Many small ones may come, of an instance's chunks.
            Framing::UntilClose if is_small => self.bytes.extend_from_slice(run),
            Framing::Length | Framing::UntilClose => return 0,
        }
        run.len()
    }

    /// What may leave, behind what [waits](Self::waiting), of a run that was not [taken](Self::take): nothing where it is
    /// to be framed, which it is as soon as there is room.
    pub(super) fn leaves_as_it_is<'r>(&self, run: &'r [u8]) -> &'r [u8] {
        if self.framing == Framing::Chunks { &[] } else { run }
    }

    /// The whole body was taken in.
    pub(super) fn end(&mut self) {
        if self.framing == Framing::Chunks {
            self.bytes.extend_from_slice(write::LAST_CHUNK);
            self.framing = Framing::Length;
        }
    }

    /// What leaves next, before what was not [taken](Self::take) of a run.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// `count` bytes have left, of what [waits](Self::waiting) and of the run behind it; returns how many of the run.
    pub(super) fn wrote(&mut self, count: usize) -> usize {
        let own = count.min(self.bytes.len() - self.written);
        self.written += own;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        count - own
    }

    /// The buffer, for the next response.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use http1::{BodyDecoder, Limits, Method, Scan, parse_request, parse_response};
    use proptest::prelude::*;

    use super::*;
    use crate::message::{
        request_id::RequestId,
        response::{self, GatewayHeaders},
    };

    fn facts(request: &str) -> RequestMeta {
        let mut scan = Scan::default();
        let request = parse_request(request.as_bytes(), &mut scan, &Limits::default()).unwrap();
        RequestMeta::of(&request, RequestId::settle(&request.fields))
    }

    fn get() -> RequestMeta {
        facts("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: id-1\r\n\r\n")
    }

    const OWN: GatewayHeaders<'_> =
        GatewayHeaders { date: b"Sat, 21 Nov 2026 12:00:00 GMT", cookie: None, prefix: None };

    /// Everything that leaves when the instance sends `pieces`, and whether that was the end.
    fn answered(facts: &RequestMeta, pieces: &[&[u8]], closes: bool) -> (Vec<u8>, bool) {
        let all: Vec<u8> = pieces.concat();
        let end = Scan::default().read(&all, &Limits::default()).unwrap();
        let mut scan = Scan::default();
        let method = if facts.is_head { Method::Head } else { Method::Get };
        let response = parse_response(&all[..end], &mut scan, &Limits::default(), &method).unwrap();
        let mut answer = ResponseWriter::new(Vec::new());
        answer.answer(facts);
        let length = BodyLength::of(response.framing);
        answer.begin(length, false, |out, framing| response::head(out, &response, facts, OWN, framing));
        let mut body = BodyDecoder::new(response.framing);
        let mut out = Vec::new();
        let mut start = end;
        let mut until = 0;
        for piece in pieces {
            until += piece.len();
            while start < until {
                let piece = body.decode(&all[start..until]).unwrap();
                if piece.consumed == 0 {
                    break;
                }
                pass(&mut answer, &all[start..until][piece.data], &mut out);
                start += piece.consumed;
            }
        }
        let is_complete = if closes { body.close().is_ok() } else { body.is_at_end() };
        if is_complete {
            answer.end();
        }
        pass(&mut answer, b"", &mut out);
        (out, is_complete)
    }

    /// Passes a run as a socket that takes little would.
    fn pass(answer: &mut ResponseWriter, mut run: &[u8], out: &mut Vec<u8>) {
        loop {
            run = &run[answer.take(run)..];
            let both: Vec<u8> = answer.waiting().iter().chain(answer.leaves_as_it_is(run)).copied().take(7).collect();
            if both.is_empty() {
                return;
            }
            run = &run[answer.wrote(both.len())..];
            out.extend(both);
        }
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

    #[test]
    fn what_has_not_left_can_be_abandoned_and_interim_responses_stay() {
        let mut answer = ResponseWriter::new(Vec::new());
        answer.answer(&get());
        answer.interim(|out| out.extend_from_slice(b"interim"));
        answer.begin(BodyLength::Unknown, false, |out, _| out.extend_from_slice(b"head"));
        answer.interim(|out| out.extend_from_slice(b"too late"));
        assert_eq!((answer.take(b"hello"), answer.waiting().starts_with(b"interimhead5")), (5, true));
        answer.abandon();
        assert_eq!(answer.waiting(), b"interim");
        answer.begin(BodyLength::Known, false, |out, _| out.extend_from_slice(b"other"));
        assert_eq!(answer.waiting(), b"interimother");
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
            let head = Scan::default().read(&out, &Limits::default()).unwrap();
            let length = http1::Framing::Length(body.len() as u64);
            let mut decoder = BodyDecoder::new(if chunked { http1::Framing::Chunked } else { length });
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
