use std::{collections::HashSet, sync::Arc, time::Duration};

use discovery::FieldError;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{Record, Records, Unreadable};
use crate::{
    store::{BATCH_MAX, Imported, Scratch, Store, StoreError},
    user::{NewUser, UserName},
};

/// The most mistakes that a report tells; of the others it tells how many there were.
const ERRORS_MAX: usize = 1000;

/// How long an import waits for a database that has gone before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// An import under way.
#[derive(Debug)]
pub struct Import<'a> {
    store: &'a Store,
    report: Report,
    batch: Vec<(u64, NewUser)>,
    names: HashSet<UserName>,
    /// In a dry run, what it does its work on.
    scratch: Option<Scratch>,
}

/// What an import did, or in a dry run would do now, if no other request changed anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Nothing was stored.
    pub dry_run: bool,
    /// The end of the file was reached.
    pub is_complete: bool,
    /// The last line up to which everything is stored that was not refused; 0 for none.
    pub stored_to_line: u64,
    /// Users who were not there.
    pub created: u64,
    /// Users of whom something is different now.
    pub changed: u64,
    /// Users who were like this already.
    pub unchanged: u64,
    /// Lines that were not stored.
    pub refused: u64,
    /// Why, for the first 1000 mistakes.
    pub errors: Vec<LineError>,
    /// Mistakes that are not told.
    pub errors_left_out: u64,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineError {
    /// Where the user begins, from 1.
    pub line: u64,
    /// Which field; `line` for the whole.
    pub field: String,
    /// What to change.
    pub reason: String,
}

/// An import that ended before the file did.
#[derive(Debug)]
pub struct Stopped {
    /// What was done until then.
    pub report: Report,
    /// Why.
    pub cause: Cause,
}

/// Why an import ended.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The file cannot be read any further.
    #[error("cannot be read any further")]
    Unreadable(#[from] Unreadable),
    /// The database does not answer, or takes no changes.
    #[error("cannot be stored")]
    Store(#[from] StoreError),
    /// The program was ended.
    #[error("was interrupted")]
    Interrupted,
}

// === impl Import ===

impl<'a> Import<'a> {
    /// Puts every user of `records`, and tells `progress` after every batch how far it is. Ends before the next batch
    /// when `interruption` is cancelled.
    ///
    /// # Errors
    /// It ended early; see [`Stopped::report`] for what is stored.
    pub async fn run(
        store: &'a Store,
        mut records: Records,
        is_dry_run: bool,
        interruption: &CancellationToken,
        mut progress: impl FnMut(&Report),
    ) -> Result<Report, Box<Stopped>> {
        let report = Report { dry_run: is_dry_run, ..Report::default() };
        let scratch = match is_dry_run {
            true => Some(
                store
                    .scratch()
                    .await
                    .map_err(|error| Box::new(Stopped { report: report.clone(), cause: error.into() }))?,
            ),
            false => None,
        };
        let batch = Vec::with_capacity(BATCH_MAX);
        let mut import = Self { store, report, batch, names: HashSet::new(), scratch };
        match import.all(&mut records, interruption, &mut progress).await {
            Ok(()) => Ok(Report { is_complete: true, ..import.report }),
            Err(cause) => Err(Box::new(Stopped { report: import.report, cause })),
        }
    }

    async fn all(
        &mut self,
        records: &mut Records,
        interruption: &CancellationToken,
        progress: &mut impl FnMut(&Report),
    ) -> Result<(), Cause> {
        loop {
            let next = interruption.run_until_cancelled(records.next()).await.ok_or(Cause::Interrupted)?;
            let record = match next {
                Ok(record) => record,
                Err(error) => {
                    // What came before is right, and is reported as stored.
                    self.flush().await?;
                    return Err(error.into());
                }
            };
            let Some(Record { line, user }) = record else { break };
            match user {
                Ok(user) => self.add(line, user).await?,
                Err(errors) => self.refuse(line, errors),
            }
            if self.batch.is_empty() {
                progress(&self.report);
            }
        }
        self.flush().await?;
        progress(&self.report);
        Ok(())
    }

    /// One name twice is two changes, one after the other: in batches of their own.
    async fn add(&mut self, line: u64, user: NewUser) -> Result<(), Cause> {
        if !self.names.insert(user.name.clone()) {
            self.flush().await?;
            self.names.insert(user.name.clone());
        }
        self.batch.push((line, user));
        if self.batch.len() == BATCH_MAX { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Cause> {
        let Some(&(last, _)) = self.batch.last() else { return Ok(()) };
        let users: Arc<[NewUser]> = self.batch.iter().map(|(_, user)| user.clone()).collect();
        let imported = self.put(users).await?;
        let lines: Vec<u64> = self.batch.drain(..).map(|(line, _)| line).collect();
        self.names.clear();
        for (line, imported) in lines.into_iter().zip(imported) {
            match imported {
                Imported::Created => self.report.created += 1,
                Imported::Changed => self.report.changed += 1,
                Imported::Unchanged => self.report.unchanged += 1,
                Imported::Refused(error) => self.refuse(line, vec![error]),
            }
        }
        if !self.report.dry_run {
            self.report.stored_to_line = last;
        }
        Ok(())
    }

    /// Goes on when the database comes back in time: a batch that was put twice is as if it was put once.
    async fn put(&mut self, users: Arc<[NewUser]>) -> Result<Vec<Imported>, StoreError> {
        let until = Instant::now() + PATIENCE;
        let mut store = self.store.clone();
        loop {
            let put = match &mut self.scratch {
                Some(scratch) => store.try_batch(scratch, Arc::clone(&users)).await,
                None => store.put_batch(Arc::clone(&users)).await,
            };
            match put {
                Err(error @ StoreError::Unavailable { .. }) => {
                    let pause = Instant::now() + Duration::from_millis(100);
                    let _ = timeout_at(pause.min(until), store.outage_changed()).await;
                    if Instant::now() >= until {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    fn refuse(&mut self, line: u64, errors: Vec<FieldError>) {
        self.report.refused += 1;
        for FieldError { field, reason } in errors {
            if self.report.errors.len() < ERRORS_MAX {
                self.report.errors.push(LineError { line, field: field.into_owned(), reason });
            } else {
                self.report.errors_left_out += 1;
            }
        }
    }
}

impl Report {
    /// How many users were read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.created + self.changed + self.unchanged + self.refused
    }
}
