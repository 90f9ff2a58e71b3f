//! One conversation, from the greeting to QUIT (RFC 5321).

use std::{io, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{Behaviour, Received, Shared, SinkTls, Step};

/// The most bytes in a message, far above what any test sends.
const MESSAGE_MAX_BYTES: usize = 64 << 20;

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

type Wire = BufReader<Pin<Box<dyn Stream>>>;

/// Whether the conversation goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

struct Session {
    wire: Wire,
    shared: Arc<Shared>,
    encrypted: bool,
    login: Option<String>,
    sender: Option<String>,
    recipients: Vec<String>,
}

/// Talks until the client leaves, the script ends it, or all connections are closed.
pub(super) async fn run(stream: TcpStream, shared: Arc<Shared>) {
    let mut farewell = shared.farewell.subscribe();
    let encrypted = shared.options.tls == SinkTls::Implicit;
    let stream: Pin<Box<dyn Stream>> = if encrypted {
        match shared.certificate.acceptor.accept(stream).await {
            Ok(stream) => Box::pin(stream),
            Err(_) => return,
        }
    } else {
        Box::pin(stream)
    };
    let mut session =
        Session { wire: BufReader::new(stream), shared, encrypted, login: None, sender: None, recipients: Vec::new() };
    tokio::select! {
        biased;
        Ok(()) = farewell.changed() => {
            let last_line = farewell.borrow().clone();
            if let Some(line) = last_line {
                let _closing_anyway = session.say(&line).await;
            }
        }
        // Errors are clients that have gone.
        _ = session.talk() => {}
    }
}

/// Turns a connection away that is one too many.
pub(super) async fn refuse(mut stream: TcpStream) {
    let _closing_anyway = stream.write_all(b"421 4.7.0 too many connections from your address\r\n").await;
}

// === impl Session ===

impl Session {
    async fn talk(&mut self) -> io::Result<()> {
        if self.step(Step::Greeting, "220 sink ESMTP").await? == Next::End {
            return Ok(());
        }
        while let Some(line) = self.read_command().await? {
            if self.obey(&line).await? == Next::End {
                break;
            }
        }
        Ok(())
    }

    async fn obey(&mut self, line: &str) -> io::Result<Next> {
        let upper = line.to_ascii_uppercase();
        match upper.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => {
                let reply = self.extensions();
                self.step(Step::Ehlo, &reply).await
            }
            "HELO" => self.step(Step::Helo, "250 sink").await,
            "STARTTLS" => self.start_tls().await,
            "AUTH" => self.auth(line).await,
            "MAIL" if self.shared.options.login.is_some() && self.login.is_none() => {
                self.say("530 5.7.0 log in first").await
            }
            "MAIL" => {
                self.sender = Some(address_in(line));
                self.recipients.clear();
                self.step(Step::Sender, "250 2.1.0 sender ok").await
            }
            "RCPT" if self.sender.is_none() => self.say("503 5.5.1 MAIL first").await,
            "RCPT" => self.recipient(line).await,
            "DATA" if self.recipients.is_empty() => self.say("503 5.5.1 RCPT first").await,
            "DATA" => self.data().await,
            "RSET" => {
                self.sender = None;
                self.recipients.clear();
                self.step(Step::Reset, "250 2.0.0 forgotten").await
            }
            "NOOP" => self.step(Step::Noop, "250 2.0.0 still here").await,
            "QUIT" => {
                self.step(Step::Quit, "221 2.0.0 bye").await?;
                Ok(Next::End)
            }
            _ => self.say("500 5.5.2 not understood").await,
        }
    }

    fn extensions(&self) -> String {
        let mut lines = vec!["sink"];
        if self.shared.options.tls == SinkTls::StartTls && !self.encrypted {
            lines.push("STARTTLS");
        }
        if self.shared.options.login.is_some() {
            lines.push("AUTH PLAIN LOGIN");
        }
        let (last, first) = lines.split_last().expect("the name is always there");
        first.iter().map(|line| format!("250-{line}\r\n")).chain([format!("250 {last}")]).collect()
    }

    async fn recipient(&mut self, line: &str) -> io::Result<Next> {
        let address = address_in(line);
        let behaviour = self.scripted(Step::Recipient);
        if behaviour.as_ref().is_none_or(Behaviour::does_the_step) {
            self.recipients.push(address);
        }
        self.perform(behaviour, "250 2.1.5 recipient ok").await
    }

    async fn start_tls(&mut self) -> io::Result<Next> {
        if self.shared.options.tls != SinkTls::StartTls || self.encrypted {
            return self.say("502 5.5.1 no TLS here").await;
        }
        let behaviour = self.scripted(Step::StartTls);
        let goes_on = behaviour.as_ref().is_none_or(Behaviour::does_the_step);
        let next = self.perform(behaviour, "220 2.0.0 go ahead").await?;
        if next == Next::End || !goes_on {
            return Ok(next);
        }
        let nothing: Pin<Box<dyn Stream>> = Box::pin(tokio::io::empty());
        let plain = std::mem::replace(&mut self.wire, BufReader::new(nothing));
        if !plain.buffer().is_empty() {
            self.violation("bytes in clear after STARTTLS");
        }
        let encrypted = self.shared.certificate.acceptor.accept(plain.into_inner()).await?;
        self.wire = BufReader::new(Box::pin(encrypted));
        self.encrypted = true;
        Ok(Next::GoOn)
    }

    /// `AUTH PLAIN <base64>` and the two questions of `AUTH LOGIN`.
    async fn auth(&mut self, line: &str) -> io::Result<Next> {
        if let Some(behaviour) = self.scripted(Step::Auth) {
            return self.perform(Some(behaviour), "235 2.7.0 welcome").await;
        }
        let mut words = line.split_whitespace().skip(1);
        let (user, password) = match (words.next().map(str::to_ascii_uppercase).as_deref(), words.next()) {
            (Some("PLAIN"), Some(response)) => {
                let decoded = base64_decode(response);
                let mut parts = decoded.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            (Some("LOGIN"), None) => {
                self.say("334 VXNlcm5hbWU6").await?;
                let user = self.read_command().await?.unwrap_or_default();
                self.say("334 UGFzc3dvcmQ6").await?;
                let password = self.read_command().await?.unwrap_or_default();
                (base64_decode(&user), base64_decode(&password))
            }
            _ => return self.say("504 5.5.4 PLAIN or LOGIN").await,
        };
        let right = self.shared.options.login.as_ref().is_some_and(|(u, p)| (u, p) == (&user, &password));
        if right {
            self.login = Some(user);
            self.say("235 2.7.0 welcome").await
        } else {
            self.say("535 5.7.8 wrong user or password").await
        }
    }

    async fn data(&mut self) -> io::Result<Next> {
        let behaviour = self.scripted(Step::Data);
        let goes_on = behaviour.as_ref().is_none_or(Behaviour::does_the_step);
        let next = self.perform(behaviour, "354 go ahead, end with a dot").await?;
        if next == Next::End || !goes_on {
            return Ok(next);
        }
        match self.scripted(Step::Text) {
            // Not even reading: the client's send buffer fills up.
            Some(Behaviour::Hang) => return std::future::pending().await,
            Some(_) => return Ok(Next::End),
            None => {}
        }
        let Some(data) = self.read_message().await? else {
            return Ok(Next::End);
        };
        let behaviour = self.scripted(Step::EndOfData);
        if behaviour == Some(Behaviour::Hold) {
            hold(&self.shared).await;
        }
        let behaviour = behaviour.filter(|behaviour| *behaviour != Behaviour::Hold);
        let sender = self.sender.take().unwrap_or_default();
        let recipients = std::mem::take(&mut self.recipients);
        if behaviour.as_ref().is_none_or(Behaviour::does_the_step) {
            let encrypted = self.encrypted;
            let login = self.login.clone();
            self.shared.log().messages.push(Received { sender, recipients, data, encrypted, login });
        }
        self.perform(behaviour, "250 2.0.0 taken").await
    }

    /// Everything up to CR LF dot CR LF; `None` when the client left before.
    async fn read_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut data = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.wire.read_until(b'\n', &mut line).await? == 0 || data.len() > MESSAGE_MAX_BYTES {
                return Ok(None);
            }
            self.check_line(&line);
            if line == b".\r\n" {
                return Ok(Some(data));
            }
            data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    async fn read_command(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.wire.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        self.check_line(&line);
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        self.shared.log().commands.push(text.clone());
        Ok(Some(text))
    }

    fn check_line(&self, line: &[u8]) {
        let Some(content) = line.strip_suffix(b"\r\n") else {
            self.violation("a line does not end in CR LF");
            return;
        };
        if content.contains(&b'\r') {
            self.violation("a bare CR");
        }
        // RFC 5321, section 4.5.3.1.6: 1000 with CR LF.
        if line.len() > 1000 {
            self.violation("a line longer than 998 bytes");
        }
        if content.iter().any(|byte| !byte.is_ascii() || *byte == 0) {
            self.violation("an 8-bit or NUL byte that no extension allows");
        }
    }

    fn violation(&self, what: &str) {
        self.shared.log().violations.push(what.to_owned());
    }

    fn scripted(&self, step: Step) -> Option<Behaviour> {
        self.shared.log().script.next(step)
    }

    async fn step(&mut self, step: Step, reply: &str) -> io::Result<Next> {
        let behaviour = self.scripted(step);
        self.perform(behaviour, reply).await
    }

    async fn perform(&mut self, behaviour: Option<Behaviour>, reply: &str) -> io::Result<Next> {
        match behaviour {
            None => self.say(reply).await,
            Some(Behaviour::Hold) => {
                hold(&self.shared).await;
                self.say(reply).await
            }
            Some(Behaviour::Reply(text) | Behaviour::DoAndReply(text)) => self.say(&text).await,
            Some(Behaviour::ReplyBytes(bytes) | Behaviour::DoAndReplyBytes(bytes)) => self.say_bytes(&bytes).await,
            Some(Behaviour::Drop | Behaviour::DoAndDrop) => Ok(Next::End),
            Some(Behaviour::Hang | Behaviour::DoAndHang) => {
                // Reading on is how the client's end is noticed.
                tokio::io::copy_buf(&mut self.wire, &mut tokio::io::sink()).await?;
                Ok(Next::End)
            }
        }
    }

    async fn say(&mut self, reply: &str) -> io::Result<Next> {
        self.say_bytes(reply.as_bytes()).await
    }

    async fn say_bytes(&mut self, reply: &[u8]) -> io::Result<Next> {
        self.wire.write_all(&[reply, b"\r\n"].concat()).await?;
        self.wire.flush().await?;
        Ok(Next::GoOn)
    }
}

/// Waits until the test says so.
async fn hold(shared: &Shared) {
    let mut released = shared.released.subscribe();
    shared.log().held += 1;
    let _released = released.changed().await;
    shared.log().held -= 1;
}

/// What stands between `<` and `>`; everything after the colon when they are missing.
fn address_in(line: &str) -> String {
    let rest = line.split_once(':').map_or("", |(_, rest)| rest).trim();
    match (rest.find('<'), rest.rfind('>')) {
        (Some(start), Some(end)) if start < end => rest[start + 1..end].to_owned(),
        _ => rest.to_owned(),
    }
}

/// Standard base64 with padding; anything else ends the text early, and then no password is right.
fn base64_decode(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else { break };
        bits = (bits << 6) | u32::try_from(value).expect("64 values");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).expect("eight bits"));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_base64_are_read() {
        assert_eq!(address_in("MAIL FROM:<a@b.c> SIZE=1"), "a@b.c");
        assert_eq!(address_in("RCPT TO:a@b.c"), "a@b.c");
        assert_eq!(base64_decode("AHVzZXIAcGFzc3dvcmQ="), "\0user\0password");
    }
}
