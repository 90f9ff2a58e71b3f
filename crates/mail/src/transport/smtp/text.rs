//! The message itself, its final dot, and the reply that decides.
//!
//! From the dot on, everything but a reply leaves the outcome unknown. A message that cannot be read to its end must
//! not get its dot: lettre takes the end of the chunks for the end of the message, so the channel is sealed before they
//! end.

use std::{
    io, iter,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    channel::Channel,
    step::{begin, ended, expect, refusal},
};
use crate::{
    message::Message,
    transport::{
        deadlines::StepDeadlines,
        outcome::{DeliveryError, Outcome, Stage},
    },
};

/// How long a server whose connection broke in the middle of a message is listened to: its reason may have come
/// already.
const PARTING_DEADLINE: Duration = Duration::from_secs(1);

/// How far the message has got. lettre asks for a chunk when the one before it has been written.
struct Progress {
    deadlines: StepDeadlines,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    ends: Instant,
    /// Why a chunk could not be read.
    unreadable: Option<io::Error>,
}

/// Sends the text; `Ok` when the server has taken it, with its final reply.
pub(super) async fn send(
    connection: &mut AsyncSmtpConnection,
    channel: &Channel,
    message: &Message,
    deadlines: StepDeadlines,
) -> Outcome {
    begin(channel, Stage::Text)?;
    // lettre ends the message with CR LF dot CR LF of its own, right after the chunks have ended.
    let content = message.content().without_last_line_end().map_err(|error| unreadable(&error))?;
    let progress = Progress::new(deadlines);
    let result = write(connection, channel, &progress, content.chunks()).await;
    let State { stage, unreadable: broken_off, .. } = progress.into_state();
    if let Some(error) = broken_off {
        return Err(unreadable(&error));
    }
    let result = match result {
        Err(DeliveryError::Lost { .. }) if listens(connection, channel).await => {
            Err(refusal(channel, stage).unwrap_or(DeliveryError::Nonsense { stage, cause: "no reply".to_owned() }))
        }
        result => result,
    };
    match stage {
        Stage::EndOfData => result.and_then(|()| expect(channel, stage, 2)).map_err(after_the_dot),
        _ => Err(result.err().unwrap_or(DeliveryError::Unknown { cause: "the server answered too early".to_owned() })),
    }
}

async fn write<B: AsRef<[u8]>>(
    connection: &mut AsyncSmtpConnection,
    channel: &Channel,
    progress: &Progress,
    mut chunks: impl Iterator<Item = io::Result<B>>,
) -> Result<(), DeliveryError> {
    let chunks = iter::from_fn(|| match chunks.next() {
        Some(Ok(chunk)) => {
            progress.begins(Stage::Text);
            Some(chunk)
        }
        Some(Err(error)) => {
            channel.seal();
            progress.state().unreadable = Some(error);
            None
        }
        // What has come before the dot is no answer to it.
        None if channel.seal_if_answered() => None,
        None => {
            progress.begins(Stage::EndOfData);
            None
        }
    });
    let mut sending = pin!(connection.message_iter(chunks));
    loop {
        let ends = progress.now().1;
        let result = timeout_at(ends, sending.as_mut()).await;
        let (stage, next_end) = progress.now();
        if result.is_ok() || next_end <= ends {
            return ended(channel, stage, result).map(|_| ());
        }
    }
}

/// Whether the server has said why it broke the connection.
async fn listens(connection: &mut AsyncSmtpConnection, channel: &Channel) -> bool {
    let _reply_or_end = timeout(PARTING_DEADLINE, connection.read_response()).await;
    refusal(channel, Stage::Text).is_some()
}

/// What an error means once the dot may have been sent: only a refusal is certain.
fn after_the_dot(error: DeliveryError) -> DeliveryError {
    let cause = match error {
        refused @ (DeliveryError::Refused { .. } | DeliveryError::Deferred { .. }) => return refused,
        DeliveryError::TimedOut { .. } => "no reply to the end of the message in time".to_owned(),
        DeliveryError::Lost { cause, .. } => format!("no reply to the end of the message: {cause}"),
        DeliveryError::Nonsense { cause, .. } => cause,
        other => other.to_string(),
    };
    DeliveryError::Unknown { cause }
}

fn unreadable(error: &io::Error) -> DeliveryError {
    DeliveryError::Unreadable { cause: error.to_string() }
}

// === impl Progress ===

impl Progress {
    fn new(deadlines: StepDeadlines) -> Self {
        let state = State { stage: Stage::Text, ends: deadlines.ends_from_now(Stage::Text), unreadable: None };
        Self { deadlines, state: Mutex::new(state) }
    }

    fn begins(&self, stage: Stage) {
        let ends = self.deadlines.ends_from_now(stage);
        let mut state = self.state();
        (state.stage, state.ends) = (stage, ends);
    }

    fn now(&self) -> (Stage, Instant) {
        let state = self.state();
        (state.stage, state.ends)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_state(self) -> State {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
