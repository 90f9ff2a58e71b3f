//! The stream that lettre talks through: TCP or TLS below it, clean replies above it, the raw ones kept.
//!
//! lettre reads a reply into a `String` and demands a text, so that `250` without one, or with one in GBK, is an error
//! to it *after* the server has taken the message. Here each reply is read as bytes ([`super::reply`]) and kept for the
//! session, which decides by its code; lettre gets the same code with an ASCII text. What this stream has seen is never
//! guessed from lettre's errors.
//!
//! A *step* is one command (or what lettre makes of one call: greeting and EHLO, AUTH and its questions). It begins
//! with [`Channel::begin`], which also notices unsolicited replies; its first refusal ends it: nothing more is written,
//! so that lettre's QUIT after a refusal, and its wait for the reply, never take place.
//!
//! *TLS is below.* After STARTTLS everything that came in clear must be forgotten (RFC 3207, section 4.2), or a third
//! party in between can put replies behind the server's 220 that are taken for encrypted ones later ("NO STARTTLS",
//! USENIX Security 2021). So the stream is taken out for the handshake only while nothing waits in it, and goes into a
//! new channel.

use std::{
    fmt, io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reply::{RawReply, ReplyReader};

/// The most bytes that a server may send before it is its turn to listen: above any EHLO reply.
const ANSWER_MAX_BYTES: usize = 128 * 1024;
const CHUNK_BYTES: usize = 4096;

/// What lies below.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// See the module. All clones are one: lettre has one, the session another.
#[derive(Clone)]
pub(super) struct Channel(Arc<Mutex<State>>);

/// Why no reply came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server closed the connection.
    Closed,
    /// The connection broke, in the system's words.
    Broken(String),
    /// What came is no reply, or is an unsolicited one.
    Nonsense(&'static str),
}

struct State {
    /// `None` once it was taken out.
    stream: Option<Box<dyn Stream>>,
    peer: SocketAddr,
    reader: ReplyReader,
    /// What lettre has not read yet.
    clean: Vec<u8>,
    answer_bytes: usize,
    /// EHLO was the last command: its reply says what the server can do, and lettre reads that.
    asked_ehlo: bool,
    /// The first refusal of this step, or else its last reply.
    reply: Option<RawReply>,
    trouble: Option<Trouble>,
    /// Nothing more may be written: the message breaks off.
    is_sealed: bool,
}

// === impl Channel ===

impl Channel {
    pub(super) fn new(stream: Box<dyn Stream>, peer: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(State {
            stream: Some(stream),
            peer,
            reader: ReplyReader::default(),
            clean: Vec::new(),
            answer_bytes: 0,
            asked_ehlo: false,
            reply: None,
            trouble: None,
            is_sealed: false,
        })))
    }

    /// For a stream on which STARTTLS has taken place: the server does not greet again, and lettre waits for a
    /// greeting.
    pub(super) fn encrypted(stream: Box<dyn Stream>, peer: SocketAddr) -> Self {
        let channel = Self::new(stream, peer);
        channel.state().clean = b"220 encrypted\r\n".to_vec();
        channel
    }

    /// Begins a step. A reply that waits already belongs to no command, except the server's announcement that it closes
    /// (421).
    pub(super) fn begin(&self) -> Result<(), Trouble> {
        let mut state = self.state();
        (state.reply, state.trouble) = (None, None);
        if state.reader.is_empty() {
            return Ok(());
        }
        match state.reader.next() {
            Ok(Some(reply)) if reply.code() == 421 => {
                state.reply = Some(reply);
                Err(Trouble::Closed)
            }
            Ok(_) | Err(_) => Err(Trouble::Nonsense("an unsolicited reply")),
        }
    }

    /// The first refusal of this step, or else its last reply.
    pub(super) fn reply(&self) -> Option<RawReply> {
        self.state().reply.clone()
    }

    /// Why no reply came, as far as the stream has seen.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.state().trouble.clone()
    }

    /// Lets nothing more be written, so that a message that breaks off never gets its final dot.
    pub(super) fn seal(&self) {
        self.state().is_sealed = true;
    }

    /// Seals the channel if a reply has come already, which then belongs to nothing that was sent: a refusal ends the
    /// step like any other, and everything else is unsolicited. Whether it did.
    pub(super) fn seal_if_answered(&self) -> bool {
        let mut state = self.state();
        // What the stream has now; it is asked again, with a real waker, by the future that waits for the reply.
        let _nothing_yet_or_the_end = state.poll_receive(&mut Context::from_waker(Waker::noop()));
        if state.reader.is_empty() {
            return false;
        }
        state.reply = state.reader.next().ok().flatten().filter(RawReply::is_negative);
        (state.trouble, state.is_sealed) = (Some(Trouble::Nonsense("an unsolicited reply")), true);
        true
    }

    /// Whether nothing has come that waits to be read, and the server has not closed the connection, as far as this host
    /// knows.
    pub(super) fn is_quiet(&self) -> bool {
        let mut state = self.state();
        let received = state.poll_receive(&mut Context::from_waker(Waker::noop()));
        received.is_pending() && state.reader.is_empty()
    }

    /// The stream below, for a TLS handshake; `None` when something waits in it that came in clear.
    pub(super) fn take_stream(&self) -> Option<(Box<dyn Stream>, SocketAddr)> {
        let mut state = self.state();
        if !state.reader.is_empty() || !state.clean.is_empty() {
            return None;
        }
        let peer = state.peer;
        state.stream.take().map(|stream| (stream, peer))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn stream(&mut self) -> io::Result<Pin<&mut Box<dyn Stream>>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.clean.is_empty() {
            match self.reader.next() {
                Ok(Some(reply)) => self.keep(reply),
                Err(_) => {
                    return Poll::Ready(Err(self.fails(Trouble::Nonsense("not a reply as RFC 5321 defines them"))));
                }
                Ok(None) => match ready!(self.poll_receive(cx)) {
                    Ok(0) => return Poll::Ready(Ok(())),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
        let taken = self.clean.len().min(out.remaining());
        out.put_slice(&self.clean[..taken]);
        self.clean.drain(..taken);
        Poll::Ready(Ok(()))
    }

    /// How many bytes came; none at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Not zeroed: a reply is short.
        let mut chunk = [MaybeUninit::uninit(); CHUNK_BYTES];
        let mut received = ReadBuf::uninit(&mut chunk);
        if let Err(error) = ready!(self.stream()?.poll_read(cx, &mut received)) {
            return Poll::Ready(Err(self.fails(Trouble::Broken(error.to_string()))));
        }
        let received = received.filled();
        if received.is_empty() {
            self.trouble = Some(Trouble::Closed);
        }
        self.answer_bytes += received.len();
        if self.answer_bytes > ANSWER_MAX_BYTES {
            return Poll::Ready(Err(self.fails(Trouble::Nonsense("an answer without an end"))));
        }
        self.reader.receive(received);
        Poll::Ready(Ok(received.len()))
    }

    fn fails(&mut self, trouble: Trouble) -> io::Error {
        self.trouble = Some(trouble);
        io::ErrorKind::InvalidData.into()
    }

    /// Keeps a reply, and makes of it what lettre can read.
    fn keep(&mut self, reply: RawReply) {
        let is_about_extensions = std::mem::take(&mut self.asked_ehlo);
        self.clean = if is_about_extensions { clean_extensions(&reply) } else { clean(&reply) };
        if !self.is_refused() {
            self.reply = Some(reply);
        }
    }

    fn is_refused(&self) -> bool {
        self.reply.as_ref().is_some_and(RawReply::is_negative)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // After a refused EHLO lettre reports success, and the session sends HELO in a step of its own.
        if self.is_sealed || self.is_refused() {
            return Poll::Ready(Err(io::Error::other("this step is over")));
        }
        self.answer_bytes = 0;
        self.asked_ehlo |= bytes.starts_with(b"EHLO ");
        let written = ready!(self.stream()?.poll_write(cx, bytes));
        if let Err(error) = &written {
            self.trouble = Some(Trouble::Broken(error.to_string()));
        }
        Poll::Ready(written)
    }
}

/// The same code with an ASCII text. lettre knows codes up to x59; which of them it is decides the session, by the raw
/// one.
fn clean(reply: &RawReply) -> Vec<u8> {
    let code = reply.code();
    let known = code / 100 * 100 + (code / 10 % 10).min(5) * 10 + code % 10;
    // Only a question of AUTH (334) is read by lettre.
    let text = reply.texts().next().unwrap_or_default();
    let text: String = text.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
    let text = if code == 334 { text.as_str() } else { "-" };
    format!("{known} {text}\r\n").into_bytes()
}

/// What the server can do, in ASCII capitals (RFC 5321, section 2.4: keywords mean the same in any case). A refusal
/// becomes a server that can do nothing: then HELO is said instead, or the session ends, as the raw reply says.
fn clean_extensions(reply: &RawReply) -> Vec<u8> {
    if reply.class() != 2 {
        return b"250 server\r\n".to_vec();
    }
    let mut lines = vec!["server".to_owned()];
    lines.extend(reply.texts().skip(1).filter(|text| text.is_ascii()).map(|text| {
        let text = String::from_utf8_lossy(text).to_ascii_uppercase();
        text.chars().filter(|c| !c.is_control()).collect()
    }));
    let last = lines.len() - 1;
    let line = |(index, text): (usize, &String)| format!("250{}{text}\r\n", if index == last { ' ' } else { '-' });
    lines.iter().enumerate().map(line).collect::<String>().into_bytes()
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.state().poll_read(cx, out)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.state().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().stream()?.poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Channel {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.state().peer)
    }
}

/// Nothing of a conversation gets into a log.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn channel() -> (DuplexStream, Channel) {
        let (server, client) = duplex(2 * ANSWER_MAX_BYTES);
        (server, Channel::new(Box::new(client), ([127, 0, 0, 1], 25).into()))
    }

    async fn read(channel: &mut Channel) -> String {
        let mut buffer = [0; 512];
        let len = channel.read(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn lettre_gets_the_code_and_the_session_the_text() {
        let (mut server, mut channel) = channel();
        for (sent, clean) in [
            (&b"250\r\n"[..], "250 -\r\n"),
            (b"550 \xD3\xCA\xCF\xE4\r\n", "550 -\r\n"),
            (b"571 x\r\n", "551 -\r\n"),
            (b"334 VXNlcm5hbWU6\r\n", "334 VXNlcm5hbWU6\r\n"),
        ] {
            channel.begin().unwrap();
            server.write_all(sent).await.unwrap();
            assert_eq!(read(&mut channel).await, clean);
            let raw = channel.reply().unwrap();
            assert!(sent.starts_with(raw.code().to_string().as_bytes()));
        }
    }

    #[tokio::test]
    async fn extensions_are_read_in_any_case_and_a_refusal_offers_none() {
        for (sent, clean) in [
            (&b"250-h\xF6st\r\n250-size 10\r\n250 StartTLS\r\n"[..], "250-server\r\n250-SIZE 10\r\n250 STARTTLS\r\n"),
            (b"250\r\n", "250 server\r\n"),
            (b"502 \xD3\xCA\r\n", "250 server\r\n"),
        ] {
            let (mut server, mut channel) = channel();
            channel.begin().unwrap();
            channel.write_all(b"EHLO us\r\n").await.unwrap();
            server.write_all(sent).await.unwrap();
            assert_eq!(read(&mut channel).await, clean);
        }
    }

    #[tokio::test]
    async fn a_refusal_ends_its_step_and_an_unsolicited_reply_is_noticed() {
        let (mut server, mut channel) = channel();
        server.write_all(b"550 no\r\n250 what\r\n").await.unwrap();
        channel.begin().unwrap();
        read(&mut channel).await;
        assert!(channel.write_all(b"QUIT\r\n").await.is_err());
        assert_eq!(channel.begin(), Err(Trouble::Nonsense("an unsolicited reply")));
    }

    #[tokio::test]
    async fn nothing_that_came_in_clear_gets_past_a_handshake() {
        let (mut server, mut channel) = channel();
        server.write_all(b"220 go\r\n250 injected\r\n").await.unwrap();
        channel.begin().unwrap();
        assert_eq!(read(&mut channel).await, "220 -\r\n");
        assert!(channel.take_stream().is_none());
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_cut_off() {
        let (mut server, mut channel) = channel();
        server.write_all(&vec![b'x'; ANSWER_MAX_BYTES + 1]).await.unwrap();
        let mut buffer = [0; 16];
        assert!(channel.read(&mut buffer).await.is_err());
        assert_eq!(channel.trouble(), Some(Trouble::Nonsense("an answer without an end")));
    }

    #[tokio::test]
    async fn what_comes_before_the_dot_is_no_answer_to_it() {
        for (early, reply) in [(&b"250 taken\r\n"[..], None), (b"552 too large\r\n", Some(552)), (b"2", None)] {
            let (mut server, mut channel) = channel();
            channel.begin().unwrap();
            assert!(!channel.seal_if_answered());
            server.write_all(early).await.unwrap();
            assert!(channel.seal_if_answered());
            assert!(channel.write_all(b"\r\n.\r\n").await.is_err());
            assert_eq!(channel.reply().map(|reply| reply.code()), reply);
            assert_eq!(channel.trouble(), Some(Trouble::Nonsense("an unsolicited reply")));
        }
    }

    #[tokio::test]
    async fn a_sealed_channel_lets_nothing_out() {
        let (mut server, mut channel) = channel();
        channel.seal();
        assert!(channel.write_all(b"\r\n.\r\n").await.is_err());
        drop(channel);
        let mut seen = Vec::new();
        server.read_to_end(&mut seen).await.unwrap();
        assert!(seen.is_empty());
    }
}
