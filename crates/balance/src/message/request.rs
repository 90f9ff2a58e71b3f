//! A request as it leaves: its head written once, its body as it comes, both kept for a second try while they are small.
//!
//! No I/O: bytes of the client go in, bytes for an instance come out. What leaves was understood: the head is written
//! anew from the parsed one, and the body is taken out of its framing, to be framed again by each attempt for itself,
//! so that no instance can read it differently than the gateway did.
//!
//! Every attempt sends [`UpstreamRequest::bytes`] from its start. As long as they are small, nothing is taken away from them, and
//! another attempt may start again; when they grow larger than [`Retries::replay_max_bytes`](crate::config::Retries), what
//! every attempt has sent is [forgotten](UpstreamRequest::forget_sent), and with it the possibility of another attempt.

use http1::{Framing, Method, Refusal as Http, Request, Version, write};

use crate::message::{
    cors::Cors,
    forwarded::Forwarded,
    gateway_error::GatewayError,
    headers::{self, Client},
    repeatable::Repeatable,
    request_id::{self, RequestId},
};

/// Room for a usual head, so that a new buffer does not grow step by step.
const HEAD_BYTES: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct UpstreamRequest {
    /// The head, and the body behind it as plain bytes.
    bytes: Vec<u8>,
    /// How many of `bytes` are the head.
    head_bytes: usize,
    /// Whether `bytes` start with the request's first byte.
    is_whole: bool,
    head: Head,
    /// Whether the whole body is there.
    is_complete: bool,
    has_known_length: bool,
    body_max_bytes: u64,
    body_bytes: u64,
    replay_max_bytes: usize,
    /// What the head said that the answer may refer to, once the head is forgotten.
    forwarded: Option<Box<[u8]>>,
    pub(crate) facts: RequestMeta,
}

/// What the head still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// `Host`, because an HTTP/1.0 client sent none, and the end.
    LacksHost,
    LacksEnd,
    Complete,
}

/// What must be remembered of a request when its head is gone.
#[derive(Debug, Clone)]
pub(crate) struct RequestMeta {
    pub(crate) id: RequestId,
    /// Whether it may be carried out twice.
    pub(crate) repeatable: Repeatable,
    /// Whether the response has no body, whatever it says.
    pub(crate) is_head: bool,
    /// How the end of its body is found, where the framing goes by the head.
    pub(crate) body: Framing,
    /// Whether the client speaks HTTP/1.0, which has no chunks and no interim responses.
    pub(crate) is_http_1_0: bool,
    /// Whether the client wants to keep its connection.
    pub(crate) keep_alive: bool,
    /// Whether it asks for a tunnel.
    pub(crate) wants_upgrade: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// What an answer of the gateway's own says about pages of other sites.
    pub(crate) cors: Cors,
}

/// What the head of a request says to an instance that it did not say to the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rewrite<'a> {
    /// What the instance is asked for: path and query.
    pub(crate) rest: &'a [u8],
    /// What was cut off the path.
    pub(crate) prefix: &'a [u8],
    /// Where the request comes from.
    pub(crate) client: &'a Client,
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
            body: request.framing,
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
            body: Framing::Empty,
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
    /// Writes the head into `bytes`, which are empty.
    pub(crate) fn new(
        mut bytes: Vec<u8>,
        request: &Request<'_>,
        Rewrite { rest, prefix, client }: Rewrite<'_>,
        facts: RequestMeta,
        sizes: Sizes,
    ) -> Self {
        bytes.reserve(HEAD_BYTES);
        let Sizes { body_max_bytes, replay_max_bytes } = sizes;
        let slash: &[u8] = if rest.first() == Some(&b'/') { b"" } else { b"/" };
        write::request_line(&mut bytes, request.method.as_bytes(), &[slash, rest]);
        // In absolute-form it is the target's (RFC 9112, section 3.2.2).
        let host = request.host;
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
        } else if request.declares_length {
            write::field_number(&mut bytes, b"Content-Length", 0);
        }
        if let Some(protocol) = upgrade(request) {
            write::field(&mut bytes, b"Connection", b"upgrade");
            write::field(&mut bytes, b"Upgrade", protocol);
        }
        Self {
            bytes,
            head_bytes: 0,
            is_whole: true,
            head: if host.is_none() { Head::LacksHost } else { Head::LacksEnd },
            is_complete: false,
            has_known_length: !is_chunked,
            body_max_bytes,
            body_bytes: 0,
            replay_max_bytes,
            forwarded: None,
            facts,
        }
    }

    /// Ends the head, before the first attempt: `address` is the instance's, for a client that named no host.
    pub(crate) fn complete_head(&mut self, address: impl FnOnce() -> String) {
        match std::mem::replace(&mut self.head, Head::Complete) {
            Head::Complete => return,
            Head::LacksHost => write::field(&mut self.bytes, b"Host", address().as_bytes()),
            Head::LacksEnd => {}
        }
        write::end(&mut self.bytes);
        self.head_bytes = self.bytes.len();
    }

    /// The head as long as it is not [complete](Self::complete_head): the request line, then field lines.
    pub(crate) fn open_head(&mut self) -> Option<&mut Vec<u8>> {
        (self.head != Head::Complete).then_some(&mut self.bytes)
    }

    /// What is there to be sent, from the start or from where it was last forgotten: the head, and the body as plain
    /// bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many of [`bytes`](Self::bytes) are the head; 0 when it is forgotten.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// Whether the head says how long the body is. Else each attempt says where it ends, as its framing does that.
    pub(crate) fn has_known_length(&self) -> bool {
        self.has_known_length
    }

    /// Takes in what has come of the body.
    ///
    /// # Errors
    ///
    /// The body is too large.
    pub(crate) fn take(&mut self, run: &[u8]) -> Result<(), GatewayError> {
        self.body_bytes += run.len() as u64;
        if self.body_bytes > self.body_max_bytes {
            return Err(GatewayError::BodyTooLarge { max_bytes: self.body_max_bytes });
        }
        self.bytes.extend_from_slice(run);
        Ok(())
    }

    /// The whole body was [taken](Self::take) in.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Whether the whole body is there, or was.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether there is a body, or will be.
    pub(crate) fn has_body(&self) -> bool {
        self.body_bytes > 0 || !self.is_complete()
    }

    /// Bytes of the body so far, unframed.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// What the request said of its way that its answer may refer to.
    pub(crate) fn forwarded(&self) -> Forwarded<'_> {
        Forwarded::read(self.forwarded.as_deref().unwrap_or(&self.bytes))
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
                self.forwarded = Some(Forwarded::read(&self.bytes).to_lines());
            }
            self.bytes.clear();
            self.head_bytes = 0;
            self.is_whole = false;
        }
        forgets
    }

    /// The buffer, for the next request.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
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
    use http1::{Limits, Scan, parse_request};

    use super::*;

    const SIZES: Sizes = Sizes { body_max_bytes: 1 << 20, replay_max_bytes: 64 };

    fn outgoing(request: &[u8]) -> (UpstreamRequest, usize) {
        let end = Scan::default().read(request, &Limits::default()).unwrap();
        let mut scan = Scan::default();
        let parsed = parse_request(&request[..end], &mut scan, &Limits::default()).unwrap();
        let client = Client::new("10.0.0.9".parse().unwrap(), false);
        let facts = RequestMeta::of(&parsed, RequestId::settle(&parsed.fields));
        let rewrite = Rewrite { rest: b"?q", prefix: b"/mail", client: &client };
        let mut outgoing = UpstreamRequest::new(Vec::new(), &parsed, rewrite, facts, SIZES);
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
        outgoing.take(&request[end..]).unwrap();
        outgoing.complete();
        let expected = format!("POST /?q HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n{OURS}Content-Length: 2\r\n\r\nhi");
        assert_eq!(written(&outgoing), expected);
        assert!(outgoing.is_complete() && outgoing.is_whole() && outgoing.facts.repeatable == Repeatable::Never);
    }

    #[test]
    fn a_body_of_unknown_length_is_kept_as_plain_bytes() {
        let request = b"PUT /mail HTTP/1.1\r\nHost: a:1\r\nX-Request-Id: id-1\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n";
        let (mut outgoing, _) = outgoing(request);
        outgoing.take(b"hi").unwrap();
        assert!(written(&outgoing).ends_with("Transfer-Encoding: chunked\r\n\r\nhi"), "{outgoing:?}");
        assert!(!outgoing.has_known_length() && !outgoing.is_complete());
        assert_eq!(&outgoing.bytes()[outgoing.head_bytes()..], b"hi");
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
        outgoing.take(&request.as_bytes()[end..end + 50]).unwrap();
        assert!(outgoing.is_whole() && outgoing.forget_sent() && !outgoing.is_whole());
        outgoing.take(&request.as_bytes()[end + 50..]).unwrap();
        assert_eq!(outgoing.bytes(), "x".repeat(50).as_bytes());
    }

    #[test]
    fn a_body_that_grows_too_large_is_refused() {
        let (mut outgoing, _) = outgoing(b"POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        outgoing.take(&vec![0; 1 << 20]).unwrap();
        assert_eq!(outgoing.take(&[0]), Err(GatewayError::BodyTooLarge { max_bytes: 1 << 20 }));
    }
}
