//! The one writer of a SQLite file, and one flush to the disk for all changes that are waiting for it.
//!
//! A flush takes milliseconds where a change takes microseconds. So a change is not committed by itself: while one
//! transaction is being flushed, the changes that come meanwhile wait, and then share the next one.
//!
//! ```text
//!  change 1 ──▶ BEGIN ─ 1 ─ COMMIT (flush) ─▶ answer 1
//!  change 2, 3, 4 ──────────── wait ────────▶ BEGIN ─ 2 ─ 3 ─ 4 ─ COMMIT (flush) ─▶ answers 2, 3, 4
//! ```
//!
//! What holds for each of them is what would hold if it were alone:
//!
//! - It is answered after the flush, also when it changed nothing because of what another one of the same transaction
//!   stored: no request gets an answer that may still be undone.
//! - When one fails, all are undone. The one that failed gets its error; the others are done again, each with its
//!   deadline.
//! - One whose request was given up in the middle is undone alone when it has a transaction of its own (an import), and
//!   is committed with the others when it is a single statement.

use std::{sync::Arc, time::Duration};

use sqlx::Sqlite;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::Leased;
use crate::store::{
    databases::kept::Kept,
    driver::{Answer, Connection, DriverError, Executed, Row, Statement},
    options::Limits,
};

/// The most changes of one flush.
const GROUP_MAX: usize = 256;
/// No change joins a transaction that is older, so that the first one does not wait for all that follow.
const GROUP_TIME: Duration = if cfg!(test) { Duration::from_secs(60) } else { Duration::from_millis(20) };

/// Where changes queue.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::UnboundedSender<WriteRequest>,
}

type WriteRequest = oneshot::Sender<Result<WriteSlot, DriverError>>;
type Flushed = oneshot::Sender<Result<(), DriverError>>;

/// The writer's connection, inside a transaction, lent to one change.
struct WriteSlot {
    /// None after it was given back.
    connection: Option<Leased>,
    is_in_savepoint: bool,
    has_failed: bool,
    give_back: Option<oneshot::Sender<Returned>>,
    flushed: oneshot::Receiver<Result<(), DriverError>>,
}

/// The connection after a change.
struct Returned {
    connection: Leased,
    is_in_savepoint: bool,
    has_failed: bool,
}

/// A transaction under way.
struct Group {
    connection: Leased,
    members: Vec<Flushed>,
    until: Instant,
}

// === impl Writer ===

impl Writer {
    /// Takes its connection from `pool`, which must have one only. Ends with the last clone.
    pub(super) fn start(pool: Arc<Kept<Sqlite>>, limits: Limits) -> Self {
        let (queue, requests) = mpsc::unbounded_channel();
        tokio::spawn(serve(pool, limits, requests));
        Self { queue }
    }

    /// Waits for a slot to write in. The queue is as long as there are requests, each with its deadline.
    pub(super) async fn slot(&self) -> Result<Box<dyn Connection>, DriverError> {
        let closed = || DriverError::NotReached("it is being closed".to_owned());
        let (request, slot) = oneshot::channel();
        self.queue.send(request).map_err(|_| closed())?;
        slot.await.map_err(|_| closed())?.map(|slot| Box::new(slot) as Box<dyn Connection>)
    }
}

async fn serve(pool: Arc<Kept<Sqlite>>, limits: Limits, mut requests: mpsc::UnboundedReceiver<WriteRequest>) {
    while let Some(first) = requests.recv().await {
        if first.is_closed() {
            continue;
        }
        match Group::begin(&pool, limits).await {
            Ok(group) => group.run(first, &mut requests).await,
            // It is gone when its deadline has passed.
            Err(error) => drop(first.send(Err(error))),
        }
    }
}

// === impl Group ===

impl Group {
    async fn begin(pool: &Kept<Sqlite>, limits: Limits) -> Result<Self, DriverError> {
        let mut connection = Leased::from(pool, limits).await?;
        match connection.begin().await {
            // Whatever broke, no change was sent yet.
            Err(DriverError::Lost(reason)) => return Err(DriverError::NotReached(reason)),
            begun => begun?,
        }
        Ok(Self { connection, members: Vec::new(), until: Instant::now() + GROUP_TIME })
    }

    async fn run(mut self, first: WriteRequest, requests: &mut mpsc::UnboundedReceiver<WriteRequest>) {
        let mut next = Some(first);
        while let Some(request) = next {
            match self.lend(request).await {
                Some(group) => self = group,
                None => return,
            }
            let is_open = self.members.len() < GROUP_MAX && Instant::now() < self.until;
            next = if is_open { requests.try_recv().ok() } else { None };
        }
        self.commit().await;
    }

    /// Lets one change be made. None when the transaction is over, because the change failed.
    async fn lend(self, request: WriteRequest) -> Option<Self> {
        let Self { connection, mut members, until } = self;
        let (give_back, returned) = oneshot::channel();
        let (member, flushed) = oneshot::channel();
        let slot = WriteSlot {
            connection: Some(connection),
            is_in_savepoint: false,
            has_failed: false,
            give_back: Some(give_back),
            flushed,
        };
        // Given up before it got its slot, it gives the connection back by being dropped.
        drop(request.send(Ok(slot)));
        let Ok(Returned { mut connection, is_in_savepoint, has_failed }) = returned.await else {
            send_result(members, &Err(DriverError::Lost("the writer's connection is gone".to_owned())));
            return None;
        };
        members.push(member);
        let is_undone = is_in_savepoint && connection.command(UNDO).await.is_err();
        if !has_failed && !is_undone {
            return Some(Self { connection, members, until });
        }
        // SQLite may have ended the transaction by itself. Dropping the connection ends it for certain.
        drop(connection);
        send_result(members, &Err(DriverError::Contended("another change of the same transaction failed".to_owned())));
        None
    }

    async fn commit(mut self) {
        let committed = self.connection.commit().await;
        send_result(self.members, &committed);
        self.connection.keep();
    }
}

/// A request that was given up does not receive it.
fn send_result(members: Vec<Flushed>, result: &Result<(), DriverError>) {
    for member in members {
        drop(member.send(result.clone()));
    }
}

const SAVE: &str = "SAVEPOINT one_change";
const KEEP: &str = "RELEASE one_change";
const UNDO: &str = "ROLLBACK TO one_change; RELEASE one_change";

// === impl WriteSlot ===

impl WriteSlot {
    fn get(&mut self) -> &mut Leased {
        self.connection.as_mut().expect("it is given back only by what consumes or drops it")
    }

    fn noticed<T>(&mut self, result: Result<T, DriverError>) -> Result<T, DriverError> {
        self.has_failed |= result.is_err();
        result
    }

    async fn command(&mut self, sql: &'static str, is_in_savepoint: bool) -> Result<(), DriverError> {
        let done = self.get().command(sql).await;
        self.is_in_savepoint = is_in_savepoint;
        self.noticed(done)
    }

    fn give_back(&mut self) {
        if let (Some(connection), Some(give_back)) = (self.connection.take(), self.give_back.take()) {
            let Self { is_in_savepoint, has_failed, .. } = *self;
            drop(give_back.send(Returned { connection, is_in_savepoint, has_failed }));
        }
    }
}

impl Connection for WriteSlot {
    fn rows(&mut self, statement: Statement) -> Answer<'_, Vec<Row>> {
        Box::pin(async move {
            let rows = self.get().rows(statement).await;
            self.noticed(rows)
        })
    }

    fn number(&mut self, statement: Statement) -> Answer<'_, i64> {
        Box::pin(async move {
            let number = self.get().number(statement).await;
            self.noticed(number)
        })
    }

    fn execute(&mut self, statement: Statement) -> Answer<'_, Executed> {
        Box::pin(async move {
            let executed = self.get().execute(statement).await;
            self.noticed(executed)
        })
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        Box::pin(self.command(SAVE, true))
    }

    /// Together with the others, when it is settled.
    fn commit(&mut self) -> Answer<'_, ()> {
        Box::pin(self.command(KEEP, false))
    }

    fn roll_back(&mut self) -> Answer<'_, ()> {
        Box::pin(self.command(UNDO, false))
    }

    fn settle(mut self: Box<Self>) -> Answer<'static, ()> {
        self.give_back();
        Box::pin(async move {
            let lost = |_| Err(DriverError::Lost("the writer's connection is gone".to_owned()));
            (&mut self.flushed).await.unwrap_or_else(lost)
        })
    }
}

impl Drop for WriteSlot {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{
        databases::Sqlite,
        driver::{Access, Database as _, Session},
    };

    const LIMITS: Limits = Limits { connections: 4, deadline: Duration::from_secs(20), unique_emails: false };

    async fn open(folder: &Path) -> Arc<dyn Session> {
        Sqlite::new(folder.join("users.db"), LIMITS).open().await.unwrap()
    }

    fn insert(name: &str) -> Statement {
        Statement::new("INSERT INTO users (name, email) VALUES (?, 'd@example.com')").bind(name)
    }

    async fn users(session: &Arc<dyn Session>) -> i64 {
        let mut reader = session.connection(Access::Read).await.unwrap();
        reader.number(Statement::new("SELECT COUNT(*) FROM users")).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_that_wait_share_a_transaction_and_are_answered_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await;
        let mut first = session.connection(Access::Write).await.unwrap();
        first.execute(insert("first")).await.unwrap();
        // Asked for while the first holds the slot, so the second joins the first's transaction.
        let mut second = session.connection(Access::Write);
        assert!(futures::poll!(&mut second).is_pending());
        let mut settling = first.settle();
        let mut second = second.await.unwrap();
        assert!(futures::poll!(&mut settling).is_pending(), "the first is not answered before the flush");
        assert_eq!(second.number(Statement::new("SELECT COUNT(*) FROM users")).await.unwrap(), 1);
        assert_eq!(users(&session).await, 0, "no reader sees what is not flushed");
        second.execute(insert("second")).await.unwrap();
        second.settle().await.unwrap();
        settling.await.unwrap();
        assert_eq!(users(&session).await, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_import_that_is_given_up_in_the_middle_is_undone_alone() {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await;
        let mut first = session.connection(Access::Write).await.unwrap();
        first.execute(insert("first")).await.unwrap();
        let mut import = session.connection(Access::Write);
        let mut last = session.connection(Access::Write);
        assert!(futures::poll!(&mut import).is_pending() && futures::poll!(&mut last).is_pending());
        let settling = first.settle();
        let mut import = import.await.unwrap();
        import.begin().await.unwrap();
        import.execute(insert("imported")).await.unwrap();
        drop(import);
        let mut last = last.await.unwrap();
        assert!(matches!(last.execute(insert("first")).await, Ok(Executed::Taken(_))), "it sees the first");
        last.execute(insert("last")).await.unwrap();
        last.settle().await.unwrap();
        settling.await.unwrap();
        assert_eq!(users(&session).await, 2, "the import left nothing");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn when_a_change_fails_the_others_of_its_transaction_are_undone_and_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await;
        let mut first = session.connection(Access::Write).await.unwrap();
        first.execute(insert("first")).await.unwrap();
        let mut failing = session.connection(Access::Write);
        assert!(futures::poll!(&mut failing).is_pending());
        let settling = first.settle();
        let mut failing = failing.await.unwrap();
        assert!(failing.execute(Statement::new("INSERT INTO nowhere VALUES (1)")).await.is_err());
        drop(failing);
        assert!(matches!(settling.await, Err(DriverError::Contended(_))));
        assert_eq!(users(&session).await, 0);
        let mut again = session.connection(Access::Write).await.unwrap();
        again.execute(insert("first")).await.unwrap();
        again.settle().await.unwrap();
        assert_eq!(users(&session).await, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_that_leaves_the_queue_delays_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await;
        let first = session.connection(Access::Write).await.unwrap();
        let mut left = session.connection(Access::Write);
        assert!(futures::poll!(&mut left).is_pending());
        drop(left);
        first.settle().await.unwrap();
        let unused = session.connection(Access::Write).await.unwrap();
        drop(unused);
        session.connection(Access::Write).await.unwrap().settle().await.unwrap();
    }
}
