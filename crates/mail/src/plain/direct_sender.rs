//! Sending while a client waits: a message waits its turn, is handed over within the deadline, and is
//! counted.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use crate::{
    message::Message,
    metrics::{Measured, SendMetrics},
    transport::{
        Transport,
        attempt_log::log_attempt,
        deadlines::StepDeadlines,
        health::Health,
        outcome::{DeliveryError, Reply},
    },
};

/// How many messages may wait for each one that is being handed over. More would wait too long.
const WAITING_PER_SEND: usize = 16;

/// How much is done at a time, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages being handed over at the same time.
    pub sends_max: usize,
    /// The longest wait for one's turn.
    pub queue_wait: Duration,
    /// The longest that handing over one message takes.
    pub deadline: Duration,
}

impl Limits {
    /// The longest that a message takes altogether.
    #[must_use]
    pub fn together(&self) -> Duration {
        self.queue_wait + self.deadline
    }
}

/// Hands messages over to the transport. Share it with [`Arc`].
#[derive(Debug)]
pub struct DirectSender {
    transport: Arc<Transport>,
    limits: Limits,
    turns: Semaphore,
    /// For messages that wait and those whose turn it is.
    reservations: Arc<Semaphore>,
    health: Health,
    metrics: SendMetrics,
}

/// A reservation for one message that waits or is being sent; dropping it releases it.
#[derive(Debug)]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl DirectSender {
    /// Sends nothing yet.
    #[must_use]
    pub fn new(transport: Arc<Transport>, limits: Limits, health: Health, metrics: SendMetrics) -> Self {
        let turns = Semaphore::new(limits.sends_max);
        let reservations = Arc::new(Semaphore::new(limits.sends_max * (1 + WAITING_PER_SEND)));
        Self { transport, limits, turns, reservations, health, metrics }
    }

    /// How much it does at a time, and for how long.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Reserves the right to wait for one more message, before anything is done about it.
    ///
    /// # Errors
    /// [`DeliveryError::Busy`]: so many wait that this one would wait too long.
    pub fn reserve(&self) -> Result<Reservation, DeliveryError> {
        match Arc::clone(&self.reservations).try_acquire_owned() {
            Ok(permit) => Ok(Reservation { _permit: permit }),
            Err(_) => {
                let busy = Err(DeliveryError::Busy);
                self.metrics.start().ended(&busy);
                busy
            }
        }
    }

    /// Delivers `message`; `Ok`, with the final reply, when the other side is responsible for it.
    ///
    /// Takes at most [`Limits::queue_wait`] and [`Limits::deadline`], and ends by `until`. When the future is dropped,
    /// a conversation with an SMTP server is broken off.
    ///
    /// # Errors
    /// See [`DeliveryError`]; they have been logged and counted.
    pub async fn send(
        &self,
        message: &Message,
        reservation: Reservation,
        until: Instant,
    ) -> Result<Reply, DeliveryError> {
        let mut measured = self.metrics.start();
        let result = self.attempt(message, until, &mut measured).await;
        drop(reservation);
        measured.ended(&result);
        self.health.note(&result);
        log_attempt(message, &result);
        result
    }

    async fn attempt(
        &self,
        message: &Message,
        until: Instant,
        measured: &mut Measured<'_>,
    ) -> Result<Reply, DeliveryError> {
        let _turn = self.turn(until).await?;
        measured.its_turn();
        let deadline = (Instant::now() + self.limits.deadline).min(until);
        let outcomes = self.transport.deliver(message, StepDeadlines::until(deadline)).await;
        // A message of `POST /` has one recipient.
        let none = || Err(DeliveryError::Unreadable { cause: "it has no recipient".to_owned() });
        outcomes.into_iter().next().unwrap_or_else(none)
    }

    async fn turn(&self, until: Instant) -> Result<SemaphorePermit<'_>, DeliveryError> {
        match timeout_at((Instant::now() + self.limits.queue_wait).min(until), self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(DeliveryError::Busy),
        }
    }
}
