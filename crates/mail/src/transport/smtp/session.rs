//! One connection to the server, and one conversation at a time over it.
//!
//! Every step has a deadline of its own ([`StepDeadlines`]) and the same end: the reply that belongs there, or a
//! [`DeliveryError`] that says where and why. What a step expects is checked exactly (2xx, and 354 after DATA): a
//! server whose replies are off by one, for whatever reason, can then never make a message look accepted.

use std::{fmt, fmt::Display, time::Duration};

use lettre::transport::smtp::{
    client::AsyncSmtpConnection,
    commands::{Data, Mail, Rcpt, Rset},
    extension::MailParameter,
};
use tokio::time::{Instant, timeout};

use super::{
    Server,
    channel::Channel,
    concurrency::ConnectionPermit,
    extensions::{Extensions, SizeLimit},
    step::{begin, expect, lead},
    text,
};
use crate::{
    message::Message,
    transport::{
        deadlines::StepDeadlines,
        outcome::{DeliveryError, Outcome, Stage},
    },
};

/// How long a waiting connection may take to show that it lives. Longer, and a new one is quicker.
const ALIVE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a connection that was used is not asked whether it lives: about as long as it may be silent within a
/// conversation without being asked.
const FRESH: Duration = Duration::from_millis(100);
/// How long a server may take to answer QUIT. Nothing depends on it.
const QUIT_DEADLINE: Duration = Duration::from_secs(1);

/// An open session: greeted, encrypted and logged in as configured.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    channel: Channel,
    extensions: Extensions,
    messages: u32,
    /// The two sides may not agree where they are, or the server has announced that it closes (421).
    is_over: bool,
    /// The last conversation ended with a message that was taken, which leaves nothing behind at the server.
    is_clean: bool,
    resting_since: Instant,
    place: ConnectionPermit,
}

impl Session {
    /// Connects, greets, encrypts, logs in.
    pub(super) async fn open(
        server: &Server,
        mut place: ConnectionPermit,
        deadlines: StepDeadlines,
    ) -> Result<Self, DeliveryError> {
        let greeted = server.connect(deadlines).await?;
        place.opened();
        Ok(Self {
            connection: greeted.connection,
            channel: greeted.channel,
            extensions: greeted.extensions,
            messages: 0,
            is_over: false,
            is_clean: false,
            resting_since: Instant::now(),
            place,
        })
    }

    /// Sends one message to all recipients of its envelope in one transaction: how it ended for each, in their order.
    pub(super) async fn deliver(
        &mut self,
        server: &Server,
        message: &Message,
        deadlines: StepDeadlines,
    ) -> Vec<Outcome> {
        self.messages += 1;
        self.is_clean = false;
        match self.transaction(server, message, deadlines).await {
            Ok(outcomes) => outcomes,
            Err(error) => message.envelope().to().iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// An error is about all recipients.
    async fn transaction(
        &mut self,
        server: &Server,
        message: &Message,
        deadlines: StepDeadlines,
    ) -> Result<Vec<Outcome>, DeliveryError> {
        let sender = self.sender(server, message)?;
        self.command(Stage::Sender, sender, deadlines).await?;
        let mut outcomes = Vec::new();
        for recipient in message.envelope().to() {
            match self.command(Stage::Recipient, Rcpt::new(recipient.clone(), Vec::new()), deadlines).await {
                Err(error) if self.is_over => return Err(error),
                outcome => outcomes.push(outcome),
            }
        }
        if outcomes.iter().any(Result::is_ok) {
            let final_reply = self.content(message, deadlines).await;
            self.is_clean = final_reply.is_ok();
            outcomes.iter_mut().filter(|outcome| outcome.is_ok()).for_each(|outcome| *outcome = final_reply.clone());
        }
        Ok(outcomes)
    }

    /// MAIL FROM, with the size where the server wants to know it (RFC 1870). What is above its limit is not even
    /// announced.
    fn sender(&self, server: &Server, message: &Message) -> Result<Mail, DeliveryError> {
        let bytes = message.content().len();
        let parameters = match self.extensions.size {
            Some(SizeLimit(Some(max_bytes))) if bytes > max_bytes => {
                return Err(DeliveryError::TooLarge { bytes, max_bytes });
            }
            Some(_) => vec![MailParameter::Size(usize::try_from(bytes).unwrap_or(usize::MAX))],
            None => Vec::new(),
        };
        let sender = match &server.return_path {
            Some(path) => path.0.clone(),
            None => message.envelope().from().cloned(),
        };
        Ok(Mail::new(sender, parameters))
    }

    async fn content(&mut self, message: &Message, deadlines: StepDeadlines) -> Outcome {
        self.command(Stage::Data, Data, deadlines).await?;
        let result = text::send(&mut self.connection, &self.channel, message, deadlines).await;
        self.noting(result)
    }

    async fn command<C: Display>(&mut self, stage: Stage, command: C, deadlines: StepDeadlines) -> Outcome {
        let class = if stage == Stage::Data { 3 } else { 2 };
        let saying = self.connection.command(command);
        let result = lead(&self.channel, deadlines.ends_from_now(stage), stage, saying).await;
        let result = result.and_then(|_| expect(&self.channel, stage, class));
        self.noting(result)
    }

    /// Notes whether the conversation can go on after this.
    fn noting(&mut self, result: Outcome) -> Outcome {
        let is_over = match &result {
            Ok(_) => false,
            Err(DeliveryError::Refused { reply, .. } | DeliveryError::Deferred { reply, .. }) => reply.code == 421,
            Err(_) => true,
        };
        self.is_over |= is_over || self.channel.trouble().is_some();
        if matches!(result, Ok(_) | Err(DeliveryError::Refused { .. } | DeliveryError::Deferred { .. })) {
            self.place.heard();
        }
        result
    }

    /// Whether it may be used without asking the server: it was in use a moment ago, left nothing behind there, and the
    /// server has closed nothing and said nothing since.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_clean && self.resting_since.elapsed() < FRESH && self.channel.is_quiet()
    }

    /// Whether the server still answers; forgets whatever the conversation before left.
    pub(super) async fn is_alive(&mut self, deadlines: StepDeadlines) -> bool {
        let soon = deadlines.ends_from_now(Stage::Session).min(Instant::now() + ALIVE_DEADLINE);
        let reset = lead(&self.channel, soon, Stage::Session, self.connection.command(Rset)).await;
        let is_alive = reset.is_ok() && expect(&self.channel, Stage::Session, 2).is_ok();
        if is_alive {
            self.place.heard();
        }
        is_alive
    }

    /// Whether a message has been handed over, or refused, before.
    pub(super) fn has_served(&self) -> bool {
        self.messages > 0
    }

    /// Whether both sides agree where they are, so that another message may follow.
    pub(super) fn is_in_step(&self) -> bool {
        !self.is_over
    }

    /// How many messages it has served.
    pub(super) fn messages(&self) -> u32 {
        self.messages
    }

    /// Starts waiting for the next message.
    pub(super) fn rest(&mut self) {
        self.resting_since = Instant::now();
    }

    /// When it has waited for `idle_max`.
    pub(super) fn old_at(&self, idle_max: Duration) -> Instant {
        // A clock that ends before that ends later than any server.
        self.resting_since.checked_add(idle_max).unwrap_or(self.resting_since + Duration::from_secs(86_400))
    }

    /// Says goodbye, for at most a second.
    pub(super) async fn quit(mut self) {
        let _whatever_waits = begin(&self.channel, Stage::Session);
        let _polite_only = timeout(QUIT_DEADLINE, self.connection.abort()).await;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("messages", &self.messages).finish_non_exhaustive()
    }
}
