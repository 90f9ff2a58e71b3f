//! A request as it leaves: its head written once, its body as it comes, both kept for a second try while they are small.
//!
//! No I/O: bytes of the client go in, bytes for an instance come out. What leaves was understood: the head is written anew
//! from the parsed one, and the body is taken out of its framing and framed again, so that no instance can read it
//! differently than the gateway did.
//!
//! Every attempt sends [`UpstreamRequest::bytes`] from its start. As long as they are small, nothing is taken away from them, and
//! another attempt may start again; when they grow larger than [`Retries::replay_max_bytes`](crate::config::Retries), what
//! every attempt has sent is [forgotten](UpstreamRequest::forget_sent), and with it the possibility of another attempt.

use http1::{BodyDecoder, Framing, Method, Name, One, Refusal as Http, Request, Target, Version, write};

use crate::message::{
    cors::Cors,
    forwarded::Told,
    headers::{self, Client},
    refusal::GatewayError,
    repeatable::Repeatable,
    request_id::{self, RequestId},
};

/// Room for a usual head, so that a new buffer does not grow step by step.
const HEAD_BYTES: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct UpstreamRequest {
    bytes: Vec<u8>,
    /// Whether `bytes` start with the request's first byte.
    is_whole: bool,
    /// Whether `Host` must be written yet, because an HTTP/1.0 client sent none.
    lacks_host: bool,
    is_head_complete: bool,
    body: BodyDecoder,
    is_chunked: bool,
    body_max_bytes: u64,
    body_bytes: u64,
    replay_max_bytes: usize,
    /// What the head said that the answer may refer to, once the head is forgotten.
    told: Option<Box<[u8]>>,
    pub(crate) facts: RequestMeta,
}

/// What must be remembered of a request when its head is gone.
#[derive(Debug, Clone)]
pub(crate) struct RequestMeta {
    pub(crate) id: RequestId,
    /// Whether it may be carried out twice.
    pub(crate) repeatable: Repeatable,
    /// Whether the response has no body, whatever it says.
    pub(crate) is_head: bool,
    /// Whether the client speaks HTTP/1.0, which has no chunks and no interim responses.
    pub(crate) is_http_1_0: bool,
    /// Whether the client wants to keep its connection.
    pub(crate) keep_alive: bool,
    /// Whether it asks for a tunnel.
    pub(crate) wants_upgrade: bool,
    /// Whether the client waits to be told to send the body.
    pub(crate) expects_continue: bool,
    /// What an answer of the gateway's own says about pages of other sites.
    pub(crate) cors: Cors,
}

/// How much of a request may be kept and sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) body_max_bytes: u64,
    pub(crate) replay_max_bytes: usize,
}

// === impl RequestMeta ===

impl RequestMeta {
    pub(crate) fn of(request: &Request<'_>, id: RequestId) -> Self {
        Self {
            id,
            repeatable: Repeatable::of(&request.method, &request.fields),
            is_head: request.method == Method::Head,
            is_http_1_0: request.version == Version::Http10,
            keep_alive: request.keep_alive,
            wants_upgrade: upgrade(request).is_some(),
            expects_continue: request.expects_continue,
            cors: Cors::Unsaid,
        }
    }

    /// Those of a request that could not be understood.
    pub(crate) fn unknown() -> Self {
        Self {
            id: RequestId::new(),
            repeatable: Repeatable::Never,
            is_head: false,
            is_http_1_0: false,
            keep_alive: false,
            wants_upgrade: false,
            expects_continue: false,
            cors: Cors::Unsaid,
        }
    }
}

/// The protocol to change to. Not HTTP/2: a request in clear text must not leave what was judged by changing its version.
fn upgrade<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    request.upgrade.filter(|protocol| !protocol.to_ascii_lowercase().starts_with(b"h2"))
}

// === impl UpstreamRequest ===

impl UpstreamRequest {
    /// Writes the head into `bytes`, which are empty. `rest` is what the instance is asked for, `prefix` what was cut off.
    pub(crate) fn new(
        mut bytes: Vec<u8>,
        request: &Request<'_>,
        rest: &[u8],
        prefix: &[u8],
        client: &Client,
        facts: RequestMeta,
        sizes: Sizes,
    ) -> Self {
        bytes.reserve(HEAD_BYTES);
        let Sizes { body_max_bytes, replay_max_bytes } = sizes;
        let slash: &[u8] = if rest.first() == Some(&b'/') { b"" } else { b"/" };
        write::request_line(&mut bytes, request.method.as_bytes(), &[slash, rest]);
        // Absolute-form: the target's authority goes before the Host field (RFC 9112, section 3.2.2).
        let host = match request.target {
            Target::Absolute { authority, .. } => Some(authority),
            Target::Origin(_) | Target::Asterisk => request.host,
        };
        if let Some(host) = host {
            write::field(&mut bytes, b"Host", host);
        }
        headers::to_instance(&mut bytes, &request.fields, host, client, prefix);
        write::field(&mut bytes, b"X-Request-Id", facts.id.as_bytes());
        request_id::write_trace(&mut bytes, &request.fields);
        let is_chunked = request.framing == Framing::Chunked;
        if is_chunked {
            write::field(&mut bytes, b"Transfer-Encoding", b"chunked");
        } else if let Framing::Length(length) = request.framing {
            write::field_number(&mut bytes, b"Content-Length", length);
        } else if request.fields.get(Name::ContentLength) != One::Absent {
            write::field_number(&mut bytes, b"Content-Length", 0);
        }
        if let Some(protocol) = upgrade(request) {
            write::field(&mut bytes, b"Connection", b"upgrade");
            write::field(&mut bytes, b"Upgrade", protocol);
        }
        Self {
            bytes,
            is_whole: true,
            lacks_host: host.is_none(),
            is_head_complete: false,
            body: BodyDecoder::new(request.framing),
            is_chunked,
            body_max_bytes,
            body_bytes: 0,
            replay_max_bytes,
            told: None,
            facts,
        }
    }

    /// Ends the head, before the first attempt: `address` is the instance's, for a client that named no host.
    pub(crate) fn complete_head(&mut self, address: impl FnOnce() -> String) {
        if std::mem::replace(&mut self.is_head_complete, true) {
            return;
        }
        if self.lacks_host {
            write::field(&mut self.bytes, b"Host", address().as_bytes());
        }
        write::end(&mut self.bytes);
    }

    /// The head as long as it is not [complete](Self::complete_head): the request line, then field lines.
    pub(crate) fn open_head(&mut self) -> Option<&mut Vec<u8>> {
        (!self.is_head_complete).then_some(&mut self.bytes)
    }

    /// What is there to be sent, from the start or from where it was last forgotten.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes in what the client has sent of the body; returns how much of it was used up.
    ///
    /// # Errors
    ///
    /// The body is too large, or not framed as it should be.
    pub(crate) fn feed(&mut self, unread: &[u8]) -> Result<usize, GatewayError> {
        let mut used = 0;
        while !self.is_complete() {
            let piece = self.body.decode(&unread[used..]).map_err(|_| GatewayError::BodyBroken)?;
            if piece.consumed == 0 {
                break;
            }
            let data = &unread[used..used + piece.consumed][piece.data];
            used += piece.consumed;
            self.body_bytes += data.len() as u64;
            if self.body_bytes > self.body_max_bytes {
                return Err(GatewayError::BodyTooLarge { max_bytes: self.body_max_bytes });
            }
            if self.is_chunked {
                write::chunk(&mut self.bytes, data);
            } else {
                self.bytes.extend_from_slice(data);
            }
        }
        if self.is_complete() && std::mem::take(&mut self.is_chunked) {
            self.bytes.extend_from_slice(write::LAST_CHUNK);
        }
        Ok(used)
    }

    /// Whether the whole body has been fed.
    pub(crate) fn is_complete(&self) -> bool {
        self.body.is_at_end()
    }

    /// Whether there is a body, or will be.
    pub(crate) fn has_body(&self) -> bool {
        self.body_bytes > 0 || !self.is_complete()
    }

    /// Bytes of the body so far, unframed.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// What the instance was told that its answer may refer to.
    pub(crate) fn told(&self) -> Told<'_> {
        Told::read(self.told.as_deref().unwrap_or(&self.bytes))
    }

    /// Whether another attempt could send everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Everything in [`bytes`](Self::bytes) was sent: what is too large to be kept is forgotten. Returns whether it was.
    pub(crate) fn forget_sent(&mut self) -> bool {
        let is_too_large = self.bytes.len() > self.replay_max_bytes;
        let forgets = is_too_large || !self.is_whole;
        if forgets {
            if self.is_whole {
                self.told = Some(Told::read(&self.bytes).to_lines());
            }
            self.bytes.clear();
            self.is_whole = false;
        }
        forgets
    }

    /// The buffer, for the next request.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// What is remembered of the head, the buffer for the next request, and what is left of the body.
    pub(crate) fn into_parts(self) -> (RequestMeta, Vec<u8>, BodyDecoder) {
        (self.facts, self.bytes, self.body)
    }
}

/// What a client gets whose head cannot be understood.
pub(crate) fn refusal(error: Http, limits: &crate::config::Limits) -> GatewayError {
    match error {
        Http::HeadTooLarge | Http::TooManyFields => {
            GatewayError::HeaderTooLarge { max_bytes: limits.header_max_bytes, fields_max: limits.header_fields_max }
        }
        Http::TargetTooLong => GatewayError::TargetTooLong { max_bytes: limits.target_max_bytes },
        Http::UnsupportedCoding => GatewayError::CodingNotImplemented,
        Http::UnsupportedVersion => GatewayError::VersionNotSupported,
        Http::UnknownExpectation => GatewayError::ExpectationFailed,
        Http::Malformed(what) => GatewayError::Malformed(what.into()),
        Http::Truncated => GatewayError::BodyBroken,
    }
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scratch, find_head_end, parse_request};
    use proptest::prelude::*;

    use super::*;

    const SIZES: Sizes = Sizes { body_max_bytes: 1 << 20, replay_max_bytes: 64 };

    fn outgoing(request: &[u8]) -> (UpstreamRequest, usize) {
        let end = find_head_end(request, &mut 0).unwrap();
        let mut scratch = Scratch::default();
        let parsed = parse_request(&request[..end], &mut scratch, &Limits::default()).unwrap();
        let client = Client::new("10.0.0.9".parse().unwrap(), false);
        let facts = RequestMeta::of(&parsed, RequestId::settle(&parsed.fields));
        let mut outgoing = UpstreamRequest::new(Vec::new(), &parsed, b"?q", b"/mail", &client, facts, SIZES);
        outgoing.complete_head(|| "10.0.0.5:7070".to_owned());
        (outgoing, end)
    }

    fn written(outgoing: &UpstreamRequest) -> String {
        String::from_utf8(outgoing.bytes().to_vec()).unwrap()
    }

    const OURS: &str = "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:1\r\n\
                        X-Forwarded-Prefix: /mail\r\nVia: 1.1 balance\r\nX-Request-Id: id-1\r\n";

    #[test]
    fn the_head_is_written_anew_and_the_length_is_kept() {
        let request = b"POST /mail?q HTTP/1.1\r\nhOst: a:1\r\nx-request-id: id-1\r\nAccept:  */*  \r\ncontent-length: 2\r\n\r\nhi";
        let (mut outgoing, end) = outgoing(request);
        assert_eq!(outgoing.feed(&request[end..]).unwrap(), 2);
        let expected = format!("POST /?q HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n{OURS}Content-Length: 2\r\n\r\nhi");
        assert_eq!(written(&outgoing), expected);
        assert!(outgoing.is_complete() && outgoing.is_whole() && outgoing.facts.repeatable == Repeatable::Never);
    }

    #[test]
    fn chunks_are_framed_again_without_extensions_and_trailers() {
        let request = b"PUT /mail HTTP/1.1\r\nHost: a:1\r\nX-Request-Id: id-1\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n\
                        002;a=b\r\nhi\r\n0\r\nX: y\r\n\r\nGET";
        let (mut outgoing, end) = outgoing(request);
        assert_eq!(outgoing.feed(&request[end..]).unwrap(), request.len() - end - 3, "the next request is not touched");
        assert!(written(&outgoing).ends_with("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{outgoing:?}");
    }

    #[test]
    fn a_request_without_a_host_gets_the_instances() {
        let (outgoing, _) = outgoing(b"GET /mail HTTP/1.0\r\n\r\n");
        assert!(written(&outgoing).ends_with("Host: 10.0.0.5:7070\r\n\r\n"));
        assert!(outgoing.facts.is_http_1_0 && !outgoing.facts.keep_alive);
    }

    #[test]
    fn a_tunnel_is_asked_for_unless_it_is_http_2() {
        let head = |protocol| {
            let head = format!(
                "GET /mail HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            );
            outgoing(head.as_bytes()).0
        };
        let websocket = head("websocket");
        assert!(written(&websocket).ends_with("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
        assert!(websocket.facts.wants_upgrade);
        let h2c = head("h2c");
        assert!(!h2c.facts.wants_upgrade && !written(&h2c).contains("pgrade:"));
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_forgotten_once_it_was_sent() {
        let request = format!("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(100));
        let (mut outgoing, end) = outgoing(request.as_bytes());
        assert_eq!(outgoing.feed(&request.as_bytes()[end..end + 50]).unwrap(), 50);
        assert!(outgoing.is_whole() && outgoing.forget_sent() && !outgoing.is_whole());
        assert_eq!(outgoing.feed(&request.as_bytes()[end + 50..]).unwrap(), 50);
        assert_eq!(outgoing.bytes(), "x".repeat(50).as_bytes());
    }

    #[test]
    fn a_body_that_grows_too_large_is_refused() {
        let mut request = b"POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        write::chunk(&mut request, &vec![0; (1 << 20) + 1]);
        let (mut outgoing, end) = outgoing(&request);
        assert_eq!(outgoing.feed(&request[end..]), Err(GatewayError::BodyTooLarge { max_bytes: 1 << 20 }));
    }

    proptest! {
        #[test]
        fn however_a_body_arrives_the_same_leaves(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            chunked: bool,
            cuts in proptest::collection::vec(1..40_usize, 1..20),
        ) {
            let mut request = b"POST /mail HTTP/1.1\r\nHost: a\r\n".to_vec();
            if chunked {
                write::field(&mut request, b"Transfer-Encoding", b"chunked");
                write::end(&mut request);
                write::chunk(&mut request, &body);
                request.extend_from_slice(write::LAST_CHUNK);
            } else {
                write::field_number(&mut request, b"Content-Length", body.len() as u64);
                write::end(&mut request);
                request.extend_from_slice(&body);
            }
            let (mut outgoing, end) = outgoing(&request);
            let head = outgoing.bytes().len();
            let (mut start, mut until) = (end, end);
            for cut in cuts.iter().cycle() {
                until = (until + cut).min(request.len());
                start += outgoing.feed(&request[start..until]).unwrap();
                if until == request.len() { break }
            }
            prop_assert!(outgoing.is_complete() && start == request.len());
            let mut decoder = BodyDecoder::new(if chunked { Framing::Chunked } else { Framing::Length(body.len() as u64) });
            let (mut left, mut unframed) = (&outgoing.bytes()[head..], Vec::new());
            while !decoder.is_at_end() {
                let piece = decoder.decode(left).unwrap();
                unframed.extend_from_slice(&left[piece.data]);
                left = &left[piece.consumed..];
            }
            prop_assert!(left.is_empty() && unframed == body);
        }
    }
}
