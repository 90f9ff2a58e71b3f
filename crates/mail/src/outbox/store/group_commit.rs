//! One task that commits: what arrives while it flushes the disk goes into the next transaction together.
//!
//! A flush costs the same for one message as for a hundred, so under load the price of a message falls, and at rest no
//! change waits for others. A caller gets `Ok` only after the commit. A transaction that fails is retried change by
//! change, so that one caller's mistake does not fail another.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    OutboxError,
    accept::{self, AcceptResult},
    attempt_record,
    database::Database,
    entry::{AttemptRecord, NewMessage},
    events::{self, Kinds},
    sql::Connection,
};

/// The most changes of one transaction.
const TOGETHER_MAX: usize = 128;
/// Changes that wait for the task; further callers wait until there is room.
const WAITING_MAX: usize = 512;

/// Attempts at a change that others contend for.
const CONTENDED_MAX: u32 = 5;

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Accept(Arc<NewMessage>),
    RecordAttempt(Arc<AttemptRecord>),
}

/// What it came to.
#[derive(Debug, Clone)]
pub(super) enum Changed {
    Accepted(AcceptResult),
    Recorded,
}

#[derive(Debug)]
struct Job {
    change: Change,
    answer: oneshot::Sender<Result<Changed, OutboxError>>,
}

/// The way to the task. The task ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Job>);

// === impl Writer ===

impl Writer {
    pub(super) fn start(database: Arc<Database>, kinds: Kinds) -> Self {
        let (sender, jobs) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(database, jobs, kinds));
        Self(sender)
    }

    /// Makes the change, even when the caller leaves meanwhile.
    pub(super) async fn commit(&self, change: Change) -> Result<Changed, OutboxError> {
        let gone = || OutboxError::Unavailable { reason: "it is being closed".to_owned() };
        let (answer, result) = oneshot::channel();
        self.0.send(Job { change, answer }).await.map_err(|_| gone())?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn run(database: Arc<Database>, mut jobs: mpsc::Receiver<Job>, kinds: Kinds) {
    let mut together = Vec::with_capacity(TOGETHER_MAX);
    while jobs.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let changes = together.iter().map(|job| job.change.clone()).collect();
        match apply(&database, changes, kinds).await {
            Ok(results) => answer(together.drain(..).zip(results.into_iter().map(Ok))),
            // It will not get better by asking a hundred times.
            Err(error) if together.len() > 1 && error.is_an_outage() && !matches!(error, OutboxError::Full) => {
                let again = || OutboxError::Unavailable { reason: error.to_string() };
                answer(together.drain(..).map(|job| (job, Err(again()))));
            }
            Err(error) if together.len() == 1 && !matches!(error, OutboxError::Contended) => {
                answer(together.drain(..).map(|job| (job, Err(again(&error)))));
            }
            Err(_) => {
                for job in together.drain(..) {
                    let _caller_left = job.answer.send(alone(&database, &job.change, kinds).await);
                }
            }
        }
    }
}

async fn alone(database: &Database, change: &Change, kinds: Kinds) -> Result<Changed, OutboxError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match apply(database, vec![change.clone()], kinds).await {
            Err(OutboxError::Contended) if attempts < CONTENDED_MAX => {}
            result => return result.and_then(|mut results| results.pop().ok_or(OutboxError::NotFound)),
        }
    }
}

/// The error once more; it cannot be cloned because of its source.
fn again(error: &OutboxError) -> OutboxError {
    match error {
        OutboxError::Full => OutboxError::Full,
        OutboxError::Silent => OutboxError::Silent,
        OutboxError::Contended => OutboxError::Contended,
        OutboxError::KeyReused => OutboxError::KeyReused,
        OutboxError::NotFound => OutboxError::NotFound,
        OutboxError::Suppressed => OutboxError::Suppressed,
        OutboxError::Conflict { reason } => OutboxError::Conflict { reason },
        OutboxError::Unavailable { .. } | OutboxError::Folder { .. } => {
            OutboxError::Unavailable { reason: service_kit::chain(error).to_string() }
        }
    }
}

fn answer(answers: impl Iterator<Item = (Job, Result<Changed, OutboxError>)>) {
    for (job, result) in answers {
        let _caller_left = job.answer.send(result);
    }
}

/// All of them, or none.
async fn apply(database: &Database, changes: Vec<Change>, kinds: Kinds) -> Result<Vec<Changed>, OutboxError> {
    let lock = database.target().lock();
    database
        .write(Box::new(move |connection| {
            Box::pin(async move {
                let mut results = Vec::with_capacity(changes.len());
                for change in &changes {
                    results.push(one(connection, change, lock, kinds).await?);
                }
                Ok(results)
            })
        }))
        .await
}

async fn one(connection: &mut Connection, change: &Change, lock: &str, kinds: Kinds) -> Result<Changed, OutboxError> {
    match change {
        Change::Accept(message) => accept::insert(connection, message, lock).await.map(Changed::Accepted),
        Change::RecordAttempt(record) => {
            if let Some(next) = attempt_record::record_attempt(connection, record, kinds).await? {
                events::of_attempt(connection, record.delivery, next, kinds).await?;
            }
            Ok(Changed::Recorded)
        }
    }
}
