//! The TCP stream under a conversation in clear, with two precautions that lettre does not take.
//!
//! *One line at a time.* After STARTTLS everything that came in clear must be forgotten (RFC 3207, section 4.2), or
//! somebody in between can put replies behind the server's 220 that are taken for encrypted ones later ("NO STARTTLS",
//! USENIX Security 2021). lettre reads through a buffer that outlives the handshake. A read here never returns more than
//! one line, so that buffer is empty when the 220 has been read, and whatever follows it goes to the handshake, which
//! fails on it.
//!
//! *So many bytes an answer.* lettre measures a line after it has read it; a line without an end would fill the memory.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most bytes that a server may send before it is its turn to listen: above any EHLO reply or TLS handshake.
const ANSWER_MAX_BYTES: usize = 128 * 1024;

const CHUNK_BYTES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Wire<S = TcpStream> {
    stream: S,
    chunk: Box<[u8; CHUNK_BYTES]>,
    /// Where in `chunk` the bytes lie that were received and not yet read.
    unread: std::ops::Range<usize>,
    answer_bytes: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, chunk: Box::new([0; CHUNK_BYTES]), unread: 0..0, answer_bytes: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread.is_empty() {
            let mut received = ReadBuf::new(&mut this.chunk[..]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut received))?;
            this.unread = 0..received.filled().len();
            this.answer_bytes += this.unread.len();
            if this.answer_bytes > ANSWER_MAX_BYTES {
                return Poll::Ready(Err(io::Error::other("the server's answer has no end")));
            }
        }
        let unread = &this.chunk[this.unread.clone()];
        let line = unread.iter().position(|byte| *byte == b'\n').map_or(unread.len(), |end| end + 1);
        let taken = line.min(out.remaining());
        out.put_slice(&unread[..taken]);
        this.unread.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answer_bytes = 0;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_read_never_returns_more_than_a_line() {
        let (mut server, client) = duplex(1024);
        server.write_all(b"220 go\r\n250 injected\r\nrest").await.unwrap();
        let mut wire = Wire::new(client);
        let mut buffer = [0; 64];
        for expected in ["220 go\r\n", "250 injected\r\n", "rest"] {
            let len = wire.read(&mut buffer).await.unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..len]).unwrap(), expected);
        }
        drop(server);
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 0, "the end is still the end");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_cut_off_and_a_write_starts_a_new_one() {
        let (mut server, client) = duplex(ANSWER_MAX_BYTES + CHUNK_BYTES);
        let mut wire = Wire::new(client);
        server.write_all(&vec![b'x'; ANSWER_MAX_BYTES]).await.unwrap();
        let mut buffer = vec![0; ANSWER_MAX_BYTES];
        wire.read_exact(&mut buffer).await.unwrap();
        wire.write_all(b"NOOP\r\n").await.unwrap();
        server.write_all(b"250 ok\r\n").await.unwrap();
        wire.read_exact(&mut buffer[..8]).await.unwrap();
        server.write_all(&vec![b'x'; ANSWER_MAX_BYTES]).await.unwrap();
        let error = wire.read_exact(&mut buffer).await.unwrap_err();
        assert!(error.to_string().contains("no end"), "{error}");
    }
}
