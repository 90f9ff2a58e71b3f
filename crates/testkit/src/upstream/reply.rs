use std::time::Duration;

/// What a scripted [`Upstream`](super::Upstream) does with a request that it has received completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Sends these bytes and waits for the next request.
    Bytes(Vec<u8>),
    /// Sends these bytes, maybe none, and closes the connection.
    ThenClose(Vec<u8>),
    /// Breaks the connection (RST) without an answer, as a process that is killed does.
    Reset,
    /// Sends these bytes after so long; other connections are served meanwhile.
    Late(Duration, Vec<u8>),
    /// Never answers; ends when the other side closes.
    Silence,
}

// === impl Reply ===

impl Reply {
    /// 200 with `body` and its length.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200, &[], body)
    }

    /// 200 with `body` and its length, after `delay`.
    pub fn after(delay: Duration, body: impl AsRef<[u8]>) -> Self {
        match Self::ok(body) {
            Self::Bytes(bytes) => Self::Late(delay, bytes),
            other => other,
        }
    }

    /// A status with header fields and a body of known length.
    pub fn status(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in fields {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    /// Exactly these bytes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }

    /// Closes the connection in an orderly way (FIN) without an answer.
    pub fn close() -> Self {
        Self::ThenClose(Vec::new())
    }
}
