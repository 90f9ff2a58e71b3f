//! Which HTTP a client speaks.
//!
//! Over TLS both sides agree on it (ALPN, RFC 7301). Without TLS a client that speaks HTTP/2 begins with `PRI * HTTP/2.0` (RFC
//! 9113, section 3.4), which no client of HTTP/1.1 does: `PRI` is no method, and reserved.

use std::io;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::tls::HTTP2;

/// What HTTP/2 begins with, as far as it needs to be looked at.
const PREFACE: &[u8] = b"PRI";

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

// === impl Protocol ===

impl Protocol {
    /// What was agreed on during the handshake.
    pub(super) fn agreed(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(HTTP2) { Self::Http2 } else { Self::Http1 }
    }
}

/// Tells by the first bytes, which are returned, too. A client that leaves before is left to HTTP/1.
pub(super) async fn of(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let rest = PREFACE.len() - first.len();
        if (&mut *stream).take(rest as u64).read_buf(&mut first).await? == 0 {
            break;
        }
    }
    let protocol = if first == PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((protocol, first.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_preface_is_told_from_every_method_however_it_arrives() {
        for (sent, expected) in [
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http2),
            ("PRI", Protocol::Http2),
            ("PUT / HTTP/1.1\r\n", Protocol::Http1),
            ("PR", Protocol::Http1),
            ("GET / HTTP/1.1\r\n", Protocol::Http1),
            ("", Protocol::Http1),
        ] {
            let mut whole = sent.as_bytes();
            let (protocol, first) = of(&mut whole).await.unwrap();
            assert_eq!((protocol, [&first, whole].concat()), (expected, sent.as_bytes().to_vec()), "{sent:?}");
            let mut parts = in_parts(sent);
            assert_eq!(of(&mut parts).await.unwrap().0, expected, "{sent:?} byte by byte");
        }
    }

    /// A stream that has one byte at a time.
    fn in_parts(text: &'static str) -> impl AsyncRead + Unpin {
        let bytes = text.as_bytes().chunks(1).map(io::Result::Ok);
        tokio_util::io::StreamReader::new(futures::stream::iter(bytes))
    }
}
