//! The SMTP transport: one server, conversations of bounded time, connections used again.
//!
//! | module | what it settles |
//! |---|---|
//! | `server`, `tls`, `extensions` | which server; how a session with it is opened |
//! | `reply`, `channel`, `step` | what the server said, as bytes; one step of a conversation |
//! | `session`, `text` | one message over one connection |
//! | `parked`, `concurrency` | connections that wait; how many the server takes |
//!
//! Why not lettre's own transport and pool: its timeout covers the connect only, so each conversation has to be broken
//! off from outside, and then its pool parks the connection as it is; the next message reads the late reply to the one
//! before as its own, and can be called accepted when it was refused. It also waits without bound for the reply to QUIT
//! before it reports a refusal, and cannot say whether the final dot was sent. So lettre's connection and commands are
//! used over a stream of ours, and the conversation is led in `session`, step by step, each with a deadline of its own
//! ([`crate::transport::deadlines`]).
//!
//! A connection is parked only after a conversation that came to its end. Dropping a future anywhere closes it.

mod channel;
mod concurrency;
mod extensions;
mod parked;
mod reply;
mod server;
mod session;
mod step;
mod text;
mod tls;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use service_kit::backoff::Backoff;
use tokio::time::{Instant, sleep};

use super::{
    deadlines::StepDeadlines,
    outcome::{DeliveryError, Outcome, Stage},
};
use crate::message::Message;

pub use server::{Login, ReturnPath, Server, TlsMode};
pub use tls::Tls;

use concurrency::{Concurrency, Turn};
use parked::Parked;
use session::Session;

/// How long a connection may take to be opened before a parked one is as welcome.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries to open a connection while others work: at first, and at most.
const REOPEN_MIN: Duration = Duration::from_millis(20);
const REOPEN_MAX: Duration = Duration::from_secs(1);

/// How connections are used.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// One that was not used for so long is closed.
    pub idle_max: Duration,
    /// Messages over one of them; then it is closed.
    pub messages_max: u32,
    /// The most at the same time, as long as the server takes as many.
    pub open_max: usize,
}

/// The server and the connections to it.
#[derive(Debug)]
pub struct SmtpTransport {
    server: Server,
    messages_max: u32,
    parked: Arc<Parked>,
    concurrency: Arc<Concurrency>,
}

impl SmtpTransport {
    /// Opens no connection.
    #[must_use]
    pub fn new(server: Server, connections: Connections) -> Self {
        let Connections { idle_max, messages_max, open_max } = connections;
        let concurrency = Arc::new(Concurrency::new(open_max));
        Self { server, messages_max, parked: Parked::new(idle_max), concurrency }
    }

    /// Hands `message` over to all recipients of its envelope in one transaction, over a waiting connection or a new
    /// one: how it ended for each of them, in their order, with the server's final reply.
    ///
    /// A connection that has served before and breaks, or says 421, before the message was taken, says nothing about
    /// the message: it is handed over again at once, on a new connection.
    ///
    /// Always ends when `deadlines` says. Cancel safe in the sense that matters: when the future is dropped the
    /// connection is closed, and without its final dot the message is not delivered.
    pub async fn deliver(&self, message: &Message, deadlines: StepDeadlines) -> Vec<Outcome> {
        let first = match self.session(deadlines, true).await {
            Ok((turn, session)) => self.over(turn, session, message, deadlines).await,
            Err(error) => return all(message, &error),
        };
        let outcomes = match first {
            Ended { has_served: true, outcomes } if outcomes.iter().any(is_about_the_channel) => {
                tracing::debug!("an SMTP connection was closed; retrying over a new one");
                match self.session(deadlines, false).await {
                    Ok((turn, session)) => self.over(turn, session, message, deadlines).await.outcomes,
                    Err(error) => all(message, &error),
                }
            }
            Ended { outcomes, .. } => outcomes,
        };
        if outcomes.iter().any(Result::is_ok) {
            self.concurrency.message_was_taken();
        }
        outcomes
    }

    async fn over(&self, _turn: Turn<'_>, mut session: Session, message: &Message, deadlines: StepDeadlines) -> Ended {
        let has_served = session.has_served();
        let outcomes = session.deliver(&self.server, message, deadlines).await;
        if session.is_in_step() && session.messages() < self.messages_max {
            self.parked.park(session);
        } else if session.is_in_step() {
            tokio::spawn(session.quit());
        }
        Ended { has_served, outcomes }
    }

    /// Whether mail could be sent now: a waiting session answers, or a new one is opened, logs in and leaves. A server
    /// that opens no new one while others of ours are open works, too.
    ///
    /// # Errors
    /// Always when `deadlines` says; see [`DeliveryError`].
    pub async fn check(&self, deadlines: StepDeadlines) -> Result<(), DeliveryError> {
        if let Some(session) = self.answering(deadlines).await {
            self.parked.put_back(session);
            return Ok(());
        }
        let error = match Session::open(&self.server, self.concurrency.place(), deadlines).await {
            Ok(session) => {
                session.quit().await;
                return Ok(());
            }
            Err(error) => error,
        };
        if self.concurrency.others_work().await { Ok(()) } else { Err(error) }
    }

    /// Closes the waiting connections.
    pub async fn close(&self) {
        join_all(self.parked.clear().into_iter().map(Session::quit)).await;
    }

    /// A session, and the right to use it: a waiting one that still answers, if it may be one of those, or a new one.
    ///
    /// While others work, one that is not opened means that they are as many as the server takes: then a turn is waited
    /// for.
    async fn session(&self, deadlines: StepDeadlines, may_wait: bool) -> Result<(Turn<'_>, Session), DeliveryError> {
        let until = deadlines.ends_from_now(Stage::Session);
        let is_urgent = deadlines.is_awaited();
        let mut turn = self.concurrency.turn(until, is_urgent).await?;
        let mut may_wait = may_wait;
        let mut backoff = Backoff::new(REOPEN_MIN, REOPEN_MAX);
        loop {
            if may_wait && let Some(session) = self.waiting(deadlines).await {
                return Ok((turn, session));
            }
            may_wait = true;
            let began = Instant::now();
            let refused = match self.open(deadlines).await {
                Some(Ok(session)) => return Ok((turn, session)),
                Some(Err(error)) => Some(error),
                // So slow that a parked one was there first.
                None => None,
            };
            if let Some(error) = refused {
                if !self.concurrency.others_work().await {
                    return Err(error);
                }
                // Our own time is up, which says nothing about how many the server takes.
                if Instant::now() >= until {
                    return Err(DeliveryError::Busy);
                }
                sleep(backoff.next_wait()).await;
            }
            self.concurrency.lower(began);
            drop(turn);
            turn = self.concurrency.turn(until, is_urgent).await?;
        }
    }

    /// A new session; `None` when that takes long and one is parked meanwhile.
    async fn open(&self, deadlines: StepDeadlines) -> Option<Result<Session, DeliveryError>> {
        let parked = async {
            sleep(OPENING_PATIENCE).await;
            self.parked.arrival().await;
        };
        tokio::select! {
            opened = Session::open(&self.server, self.concurrency.place(), deadlines) => Some(opened),
            () = parked => None,
        }
    }

    /// A waiting session for a message: one that was used a moment ago as it is, and else one that still answers. For a
    /// client that waits it is always asked: a server that has fallen silent is found out sooner.
    async fn waiting(&self, deadlines: StepDeadlines) -> Option<Session> {
        let session = self.parked.take()?;
        let is_trusted = !deadlines.is_awaited() && session.is_fresh();
        if is_trusted { Some(session) } else { self.asked(session, deadlines).await }
    }

    /// A waiting session that answers now.
    async fn answering(&self, deadlines: StepDeadlines) -> Option<Session> {
        self.asked(self.parked.take()?, deadlines).await
    }

    /// The server may have closed it, so it is asked first, while nothing of the message has been sent. Where one is
    /// dead the others are, too.
    async fn asked(&self, mut session: Session, deadlines: StepDeadlines) -> Option<Session> {
        if session.is_alive(deadlines).await {
            return Some(session);
        }
        tracing::debug!("the SMTP server closed an idle connection");
        drop(self.parked.clear());
        None
    }
}

/// How a message over one session ended.
struct Ended {
    /// The session had served another message before.
    has_served: bool,
    outcomes: Vec<Outcome>,
}

/// Whether the connection ended, for reasons of its own, before the message was taken.
fn is_about_the_channel(outcome: &Outcome) -> bool {
    match outcome {
        Err(DeliveryError::Deferred { reply, .. }) => reply.code == 421,
        Err(DeliveryError::Lost { .. }) => true,
        _ => false,
    }
}

fn all(message: &Message, error: &DeliveryError) -> Vec<Outcome> {
    message.envelope().to().iter().map(|_| Err(error.clone())).collect()
}

#[cfg(test)]
mod tests;
