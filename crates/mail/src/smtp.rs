//! The SMTP transport: one server, conversations of bounded time, connections used again.
//!
//! Why not lettre's own transport and pool: its timeout covers the connect only, so each conversation has to be broken off
//! from outside, and then its pool parks the connection as it is; the next message reads the late reply to the one before
//! as its own, and can be called accepted when it was refused. It also waits without bound for the reply to QUIT before
//! it reports a refusal, and cannot say whether the final dot was sent. So lettre's connection and commands are used, and
//! the conversation is led in `session`, step by step, each with a deadline of its own ([`crate::allowance`]).
//!
//! A connection is parked only after a conversation that came to its end. Dropping a future anywhere closes it.

mod server;
mod session;
mod step;
mod wire;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    allowance::Allowance,
    delivery::{DeliveryError, Reply},
    message::Message,
};

pub use server::{Login, Server, TlsMode};

use session::Session;

/// The server and the connections to it that wait for the next message.
#[derive(Debug)]
pub struct SmtpTransport {
    server: Server,
    /// The last one parked is the first one taken, so that the others grow old and are closed.
    idle: Mutex<Vec<Session>>,
    idle_max: Duration,
}

impl SmtpTransport {
    /// Opens no connection. One that nobody used for `idle_max` is closed.
    #[must_use]
    pub fn new(server: Server, idle_max: Duration) -> Self {
        Self { server, idle: Mutex::default(), idle_max }
    }

    /// Hands `message` over, over a waiting connection or a new one, and returns the server's last word.
    ///
    /// Cancel safe in the sense that matters: when the future is dropped the connection is closed, and without its final
    /// dot the message is not delivered.
    ///
    /// # Errors
    /// Always when `allowance` says; see [`DeliveryError`].
    pub async fn deliver(&self, message: &Message, allowance: Allowance) -> Result<Reply, DeliveryError> {
        let mut session = self.session(allowance).await?;
        let result = session.deliver(message, allowance).await;
        if session.may_be_used_again(&result) {
            self.park(session);
        }
        result
    }

    /// Whether mail could be sent now: opens a session, logs in, leaves.
    ///
    /// # Errors
    /// Always when `allowance` says; see [`DeliveryError`].
    pub async fn check(&self, allowance: Allowance) -> Result<(), DeliveryError> {
        let session = Session::open(&self.server, allowance).await?;
        session.quit().await;
        self.close_old().await;
        Ok(())
    }

    /// Closes the waiting connections.
    pub async fn close(&self) {
        let sessions = std::mem::take(&mut *self.idle());
        for session in sessions {
            session.quit().await;
        }
    }

    /// A waiting session that still answers, or a new one. The server may have closed a waiting one, so it is asked first,
    /// while nothing of the message has been sent. Where one is dead the others are, too.
    async fn session(&self, allowance: Allowance) -> Result<Session, DeliveryError> {
        self.close_old().await;
        let waiting = self.idle().pop();
        if let Some(mut session) = waiting {
            if session.is_alive(allowance).await {
                return Ok(session);
            }
            tracing::debug!("the SMTP server has closed a waiting connection");
            self.idle().clear();
        }
        Session::open(&self.server, allowance).await
    }

    async fn close_old(&self) {
        let old: Vec<Session> = {
            let mut idle = self.idle();
            let (old, young) = idle.drain(..).partition(|session| session.is_older_than(self.idle_max));
            *idle = young;
            old
        };
        for session in old {
            tokio::spawn(session.quit());
        }
    }

    fn park(&self, mut session: Session) {
        session.rest();
        self.idle().push(session);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lettre::address::Envelope;
    use testkit::smtp_sink::SmtpSink;

    use super::*;
    use crate::{
        content::Content,
        message::MessageId,
        smtp::server::{Server, TlsMode},
    };

    fn message(content: Content) -> Message {
        let address = || "a@b.c".parse().unwrap();
        let envelope = Envelope::new(Some(address()), vec![address()]).unwrap();
        Message::stored(MessageId::stored("<1@b.c>".to_owned()), envelope, content)
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_to_its_end_is_broken_off_before_the_final_dot() {
        let sink = SmtpSink::start().await;
        let (host, port) = (sink.address().ip().to_string(), sink.address().port());
        let server = Server { host, port, tls_mode: TlsMode::None, tls: None, login: None, hello: None };
        let transport = SmtpTransport::new(server, Duration::from_secs(60));
        let allowance = Allowance::by_step(Duration::from_secs(20), Duration::from_secs(20));
        for len in [1_000, 1_000_000] {
            let result = transport.deliver(&message(Content::broken(len)), allowance).await;
            assert!(matches!(result, Err(DeliveryError::Unreadable { .. })), "{result:?}");
        }
        transport.deliver(&message(b"Subject: whole\r\n\r\nx\r\n".to_vec().into()), allowance).await.unwrap();
        let subjects: Vec<_> = sink.messages().iter().map(|message| message.header("Subject")).collect();
        assert_eq!(subjects, [Some("whole".to_owned())], "nothing else has arrived");
    }
}
