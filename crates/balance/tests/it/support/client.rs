use std::{future::Future, net::SocketAddr};

use testkit::wait::SOON;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A client connection that sends exactly what it is told.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response, with its body unframed.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends as much as the other side takes; false when it takes nothing any more.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        soon("sending", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Ends this direction (FIN); what comes the other way can still be read.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Breaks the connection (RST).
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// How the connection ends: what still comes, and whether it is broken rather than closed.
    pub(crate) async fn end(mut self) -> (Vec<u8>, std::io::Result<usize>) {
        loop {
            match soon("an end", self.stream.read_buf(&mut self.unread)).await {
                Ok(1..) => {}
                end => return (self.unread, end),
            }
        }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        match request.starts_with("HEAD ") {
            true => self.head_only().await,
            false => self.answer().await,
        }
    }

    /// Reads an answer that has a body.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head_only().await;
        if matches!(answer.status, 204 | 304) {
            return answer;
        }
        answer.body = match (answer.header("content-length"), answer.header("transfer-encoding")) {
            (Some(length), None) => self.read(length.parse().unwrap()).await,
            (None, Some("chunked")) => self.read_chunks().await,
            (None, None) => self.rest().await,
            both => panic!("a response with {both:?}: {}", answer.head),
        };
        answer
    }

    /// Reads the head of an answer.
    pub(crate) async fn head_only(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            let so_far = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.more().await, "the connection ended in a head: {so_far:?}");
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").or(head.strip_prefix("HTTP/1.0 ")).expect("a status line");
        Answer { status: status[..3].parse().unwrap(), head, body: Vec::new() }
    }

    /// Reads whatever has come, at least one byte; empty at the end.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.more().await;
        }
        std::mem::take(&mut self.unread)
    }

    /// Reads to the end of the connection, whether it is closed or broken.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the other side has closed the connection; waits for that or for more bytes.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read_some().await.is_empty()
    }

    /// One chunk of a chunked body; `None` for the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(end) = self.unread.windows(2).position(|bytes| bytes == b"\r\n") {
                break end;
            }
            assert!(self.more().await, "the connection ended in a chunk");
        };
        let line: Vec<u8> = self.unread.drain(..end + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).expect("a chunk's size");
        let chunk = self.read(size).await;
        assert_eq!(self.read(2).await, b"\r\n", "the end of a chunk");
        (size > 0).then_some(chunk)
    }

    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more().await, "the connection ended in a body");
        }
        self.unread.drain(..length).collect()
    }

    async fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend(chunk);
        }
        body
    }

    async fn more(&mut self) -> bool {
        matches!(soon("an answer", self.stream.read_buf(&mut self.unread)).await, Ok(1..))
    }
}

impl Answer {
    /// The value of a field that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} is there twice: {}", self.head);
        first
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The `code` and the `detail` of a problem; fails when this is none, or an incomplete one.
    pub(crate) fn problem(&self) -> (String, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{} {}", self.head, self.text());
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{problem} {}", self.head);
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (text("code"), text("detail"))
    }

    /// Status and `code` of a problem.
    pub(crate) fn code(&self) -> (u16, String) {
        (self.status, self.problem().0)
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} did not come within {SOON:?}"))
}
