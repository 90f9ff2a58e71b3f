//! One connection to the server, and one conversation at a time over it.
//!
//! Every step has a deadline of its own ([`Allowance`]) and the same end: the reply that belongs there, or a [`DeliveryError`] that says where
//! and why. What a step expects is checked exactly (2xx, and 354 after DATA): a server whose replies are off by one, for
//! whatever reason, can then never make a message look accepted.

use std::{
    fmt::{self, Display},
    io, iter,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use lettre::transport::smtp::{
    client::AsyncSmtpConnection,
    commands::{Data, Mail, Rcpt, Rset},
    response::{Response, Severity},
};
use tokio::time::{Instant, timeout};

use super::{
    Server,
    step::{expect, within},
};
use crate::{
    allowance::Allowance,
    delivery::{DeliveryError, Reply, Stage},
    message::Message,
};

/// Messages over one connection. Servers limit it (many at 100); leaving before they complain is cheaper.
const MESSAGES_MAX: u32 = 100;
/// How long a waiting connection may take to show that it lives. Longer, and a new one is quicker.
const ALIVE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a server may take to answer QUIT. Nothing depends on it.
const QUIT_DEADLINE: Duration = Duration::from_secs(1);

/// An open session: greeted, encrypted and logged in as configured.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    messages: u32,
    resting_since: Instant,
}

impl Session {
    /// Connects, greets, encrypts, logs in.
    pub(super) async fn open(server: &Server, allowance: Allowance) -> Result<Self, DeliveryError> {
        let connection = server.connect(allowance).await?;
        Ok(Self { connection, messages: 0, resting_since: Instant::now() })
    }

    /// Sends one message; `Ok` when the server has taken it, with its last word.
    pub(super) async fn deliver(&mut self, message: &Message, allowance: Allowance) -> Result<Reply, DeliveryError> {
        self.messages += 1;
        let envelope = message.envelope();
        self.command(Stage::Sender, Mail::new(envelope.from().cloned(), Vec::new()), allowance).await?;
        for recipient in envelope.to() {
            self.command(Stage::Recipient, Rcpt::new(recipient.clone(), Vec::new()), allowance).await?;
        }
        self.command(Stage::Data, Data, allowance).await?;
        self.text(message, allowance).await
    }

    async fn command<C: Display>(
        &mut self,
        stage: Stage,
        command: C,
        allowance: Allowance,
    ) -> Result<(), DeliveryError> {
        let response = within(allowance.ends_from_now(stage), stage, self.connection.command(command)).await?;
        let expected = if stage == Stage::Data { Severity::PositiveIntermediate } else { Severity::PositiveCompletion };
        expect(expected, &response).map_err(|cause| DeliveryError::Nonsense { stage, cause })
    }

    /// The message, the final dot and the reply. From the dot on, everything but a reply leaves the outcome unknown.
    async fn text(&mut self, message: &Message, allowance: Allowance) -> Result<Reply, DeliveryError> {
        let unreadable = |error: &io::Error| DeliveryError::Unreadable { cause: error.to_string() };
        let progress = Progress::new(allowance);
        // lettre ends the message with CR LF dot CR LF of its own, right after the iterator has ended.
        let content = message.content().without_last_line_end().map_err(|error| unreadable(&error))?;
        let mut blocks = content.blocks();
        let blocks = iter::from_fn(|| {
            let block = blocks.next();
            progress.begins(if block.is_some() { Stage::Text } else { Stage::EndOfData });
            // To lettre the end of the iterator is the end of the message, and it has no word for a message that breaks off.
            // Unwinding is the one way out of it before the dot; no panic is reported.
            block.map(|block| block.unwrap_or_else(|error| resume_unwind(Box::new(error))))
        });
        let sending = AssertUnwindSafe(self.connection.message_iter(blocks)).catch_unwind();
        let sending = sending.map(|ended| match ended {
            Ok(Ok(response)) => Ok(Ok(response)),
            Ok(Err(error)) => Err(error),
            Err(payload) => Ok(Err(payload)),
        });
        let mut sending = pin!(sending);
        let result = loop {
            let (stage, ends) = progress.now();
            match within(ends, stage, sending.as_mut()).await {
                Err(DeliveryError::TimedOut { .. }) if progress.now().1 > ends => {}
                result => break result,
            }
        };
        let result = match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(payload)) => match payload.downcast::<io::Error>() {
                Ok(error) => return Err(unreadable(&error)),
                Err(panic) => resume_unwind(panic),
            },
            Err(error) => Err(error),
        };
        let has_ended = || progress.now().0 == Stage::EndOfData;
        if !has_ended() {
            // It cannot have ended well.
            return result.and(Err(DeliveryError::Unknown { cause: "the server answered too early".to_owned() }));
        }
        match result {
            Ok(response) => expect(Severity::PositiveCompletion, &response)
                .map(|()| reply(&response))
                .map_err(|cause| DeliveryError::Unknown { cause }),
            Err(DeliveryError::Refused { reply, .. }) => Err(DeliveryError::Refused { stage: Stage::EndOfData, reply }),
            Err(DeliveryError::Deferred { reply, .. }) => {
                Err(DeliveryError::Deferred { stage: Stage::EndOfData, reply })
            }
            Err(DeliveryError::TimedOut { .. }) => {
                Err(DeliveryError::Unknown { cause: "no reply to the end of the message in time".to_owned() })
            }
            Err(DeliveryError::Lost { cause, .. } | DeliveryError::Nonsense { cause, .. }) => {
                Err(DeliveryError::Unknown { cause: format!("no reply to the end of the message: {cause}") })
            }
            Err(other) => Err(DeliveryError::Unknown { cause: other.to_string() }),
        }
    }

    /// Whether the server still answers; forgets whatever the conversation before left.
    pub(super) async fn is_alive(&mut self, allowance: Allowance) -> bool {
        let soon = allowance.ends_from_now(Stage::Session).min(Instant::now() + ALIVE_DEADLINE);
        let reset = within(soon, Stage::Session, self.connection.command(Rset)).await;
        reset.is_ok_and(|response| expect(Severity::PositiveCompletion, &response).is_ok())
    }

    /// Whether both sides agree where they are, after a conversation that ended like this: it went well, or the server
    /// refused in so many words. 421 announces that it closes.
    pub(super) fn may_be_used_again(&self, result: &Result<Reply, DeliveryError>) -> bool {
        let in_step = match result {
            Ok(_) => true,
            Err(DeliveryError::Refused { reply, .. } | DeliveryError::Deferred { reply, .. }) => reply.code != 421,
            Err(_) => false,
        };
        in_step && self.messages < MESSAGES_MAX
    }

    /// Starts waiting for the next message.
    pub(super) fn rest(&mut self) {
        self.resting_since = Instant::now();
    }

    pub(super) fn is_older_than(&self, idle_max: Duration) -> bool {
        self.resting_since.elapsed() > idle_max
    }

    /// Says goodbye, for at most a second.
    pub(super) async fn quit(mut self) {
        let _polite_only = timeout(QUIT_DEADLINE, self.connection.abort()).await;
    }
}

/// Which block is on its way, and until when it may be. lettre asks for a block when the one before it has been written.
struct Progress {
    allowance: Allowance,
    now: Mutex<(Stage, Instant)>,
}

impl Progress {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, now: Mutex::new((Stage::Text, allowance.ends_from_now(Stage::Text))) }
    }

    fn begins(&self, stage: Stage) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (stage, self.allowance.ends_from_now(stage));
    }

    fn now(&self) -> (Stage, Instant) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reply(response: &Response) -> Reply {
    Reply::new(response.code().into(), &response.message().collect::<Vec<_>>().join(" "))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("messages", &self.messages).finish_non_exhaustive()
    }
}
