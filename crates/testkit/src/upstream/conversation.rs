use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Longer heads are a violation.
const HEAD_MAX_BYTES: usize = 256 * 1024;

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The request line and the header fields, byte by byte, up to and with the empty line.
    pub head: String,
    /// `GET`
    pub method: String,
    /// The request target as sent: `/a%20b?c`.
    pub target: String,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Which connection it came on: 1 for the first one accepted.
    pub connection: usize,
}

/// Something that is not HTTP/1.1; the text quotes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

/// A loopback listener whose connections the test holds itself.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    accepted: usize,
}

/// One connection, from the side of an origin.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    unread: Vec<u8>,
    number: usize,
}

// === impl Received ===

impl Received {
    /// The values of a header field, in order; the name in lower case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The value of a header field that is there exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

// === impl Malformed ===

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Listener ===

impl Listener {
    pub(super) async fn bind() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        Self { listener, accepted: 0 }
    }

    /// Where it listens.
    ///
    /// # Panics
    ///
    /// Never: a bound socket has an address.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    /// Waits for the next connection.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub async fn accept(&mut self) -> Conversation {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        self.accepted += 1;
        Conversation::new(stream, self.accepted)
    }
}

// === impl Conversation ===

impl Conversation {
    pub(super) fn new(stream: TcpStream, number: usize) -> Self {
        // Pieces of a body must leave one by one, as the test writes them.
        let _best_effort = stream.set_nodelay(true);
        Self { stream, unread: Vec::new(), number }
    }

    /// Reads a request with its whole body; `None` when the other side has closed, or broken, the connection between
    /// two requests.
    ///
    /// # Errors
    ///
    /// What arrived is not a request, or ended in the middle of one.
    pub async fn read_request(&mut self) -> Result<Option<Received>, Malformed> {
        let Some(mut received) = self.read_head().await? else { return Ok(None) };
        let lengths = received.all("content-length");
        let codings = received.all("transfer-encoding");
        received.body = match (&lengths[..], &codings[..]) {
            ([], []) => Vec::new(),
            ([length], []) => {
                let length = length.parse().map_err(|_| received.malformed("its length"))?;
                self.read(length).await.ok_or_else(|| received.malformed("the end of its body"))?
            }
            ([], ["chunked"]) => self.read_chunks().await.ok_or_else(|| received.malformed("its chunks"))?,
            _ => return Err(received.malformed("its framing")),
        };
        Ok(Some(received))
    }

    /// Reads the head of a request and leaves its body; `None` as for [`read_request`](Self::read_request).
    ///
    /// # Errors
    ///
    /// What arrived is not the head of a request.
    pub async fn read_head(&mut self) -> Result<Option<Received>, Malformed> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if self.unread.len() > HEAD_MAX_BYTES {
                return Err(Malformed("a head without an end".to_owned()));
            }
            if !self.more().await {
                let rest = String::from_utf8_lossy(&self.unread);
                return if rest.is_empty() { Ok(None) } else { Err(Malformed(format!("half a head: {rest:?}"))) };
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).map_err(|error| Malformed(format!("not text: {error}")))?;
        let line = head.split("\r\n").next().unwrap_or_default();
        let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(Malformed(format!("no request line: {line:?}")));
        };
        let method = method.to_owned();
        let target = target.to_owned();
        Ok(Some(Received { head, method, target, body: Vec::new(), connection: self.number }))
    }

    /// Reads whatever comes next, at least one byte; empty when the other side is done.
    pub async fn read_some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.more().await;
        }
        std::mem::take(&mut self.unread)
    }

    /// Sends bytes; what the other side no longer wants is lost.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _gone = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Reads and forgets until the other side has closed or broken the connection.
    pub async fn closed(mut self) {
        while self.more().await {
            self.unread.clear();
        }
    }

    /// Breaks the connection (RST).
    ///
    /// # Panics
    ///
    /// When the kernel refuses the option that makes `close` do so.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("an option that every TCP socket has");
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..))
    }

    async fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    async fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(&line, 16).ok()?;
            let chunk = self.read(size).await?;
            // Without trailer fields, the last chunk ends like every other one.
            if self.read(2).await? != b"\r\n" {
                return None;
            }
            if size == 0 {
                return Some(body);
            }
            body.extend(chunk);
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.unread.drain(..end + 2).collect::<Vec<_>>();
                return String::from_utf8(line[..end].to_vec()).ok();
            }
            if !self.more().await {
                return None;
            }
        }
    }
}

impl Received {
    fn malformed(&self, what: &str) -> Malformed {
        Malformed(format!("cannot make sense of {what}: {:?}", self.head))
    }
}
