//! Whether the program speaks what it is announced to speak. Asked once, when it is well for the first time: a gateway
//! could only say that the instance is of no use.
//!
//! Told by the first bytes of the answer to a greeting of the protocol. The greetings carry no request, so that a
//! program does nothing for them. A program that is announced as `http` is not greeted: its greeting would be a
//! request.

use std::time::Duration;

use discovery::{Address, Scheme};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long the greeting may take: a program that says nothing is not judged.
const LIMIT: Duration = Duration::from_secs(1);
/// What an HTTP/2 client begins with (RFC 9113, section 3.4): the preface and an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A handshake record that TLS refuses with an alert (RFC 8446, sections 5.1 and 6), and ends of lines for who reads
/// lines.
const TLS: &[u8] = b"\x16\x03\x01\0\x04\x01\0\0\0\r\n\r\n\r\n";

/// Says so when the program at `address` does not speak `scheme`.
pub(crate) async fn warn_if_not(scheme: Scheme, address: Address) {
    if let Some(spoken) = spoken_instead(scheme, &address).await {
        let announced = scheme.as_str();
        tracing::warn!(
            %address,
            "the program speaks {spoken}, but is announced as {announced}, by which no gateway can use it; let it speak \
             {announced}, or leave --scheme out for HTTP/1.1"
        );
    }
}

async fn spoken_instead(scheme: Scheme, address: &Address) -> Option<&'static str> {
    let greeting = match scheme {
        Scheme::Http => return None,
        Scheme::Https => TLS,
        Scheme::H2c => HTTP2,
    };
    let answer = timeout(LIMIT, greet(address, greeting)).await.ok()?.ok()?;
    judge(scheme, &answer)
}

async fn greet(address: &Address, greeting: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address.to_string()).await?;
    stream.write_all(greeting).await?;
    let mut answer = vec![0; 16];
    let len = stream.read(&mut answer).await?;
    answer.truncate(len);
    Ok(answer)
}

fn judge(scheme: Scheme, answer: &[u8]) -> Option<&'static str> {
    // A TLS record begins with its type, alert or handshake, and version 3; an HTTP/2 frame has its type, SETTINGS,
    // fourth.
    let is_tls = matches!(answer, [0x15 | 0x16, 3, ..]);
    let is_http1 = answer.starts_with(b"HTTP/1.") || answer.starts_with(b"<");
    match scheme {
        Scheme::H2c if is_tls => Some("TLS"),
        Scheme::H2c | Scheme::Https if is_http1 => Some("HTTP/1.1 without TLS"),
        Scheme::Https if answer.get(3) == Some(&4) && !is_tls => Some("HTTP/2 without TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let http1: &[u8] = b"HTTP/1.1 400 Bad";
        let http2: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        let alert: &[u8] = b"\x15\x03\x03\0\x02\x02\x32";
        for (scheme, answer, expected) in [
            (Scheme::H2c, http1, Some("HTTP/1.1 without TLS")),
            (Scheme::H2c, http2, None),
            (Scheme::H2c, alert, Some("TLS")),
            (Scheme::Https, http1, Some("HTTP/1.1 without TLS")),
            (Scheme::Https, http2, Some("HTTP/2 without TLS")),
            (Scheme::Https, alert, None),
            (Scheme::H2c, b"", None),
        ] {
            assert_eq!(judge(scheme, answer), expected, "{scheme:?} {answer:?}");
        }
    }
}
