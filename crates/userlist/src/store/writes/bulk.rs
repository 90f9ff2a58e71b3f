//! The same change to many users: to all of a filter, page by page.
//!
//! Each page is a transaction of its own, so that other requests run in between. A user who does not match the filter
//! any more when the page is changed is left as it is. A dry run is the same, rolled back.

use discovery::FieldError;
use service_kit::time::UnixMillis;

use super::{Refusal, batch::end};
use crate::{
    store::{
        Store, StoreError,
        driver::{Access, Connection, DriverError, Executed},
        metrics::Query,
        selection::{Filter, Page, Position},
        sql::{self, Dialect, Emails},
    },
    user::{Changes, User, UserId},
};

/// What is done to each of them.
#[derive(Debug, Clone, PartialEq)]
pub enum BulkChange {
    /// They are changed; only in what two users may have in common, which name and address need not be.
    Change(Box<Changes>),
    /// They are deleted.
    Delete,
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkStep {
    /// Users of whom something is different now.
    pub changed: u64,
    /// Users who were like this already.
    pub unchanged: u64,
    /// Users who are gone.
    pub deleted: u64,
    /// Users who stay as they are, and why.
    pub refused: Vec<(UserId, FieldError)>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position>,
}

// === impl Store ===

impl Store {
    /// Does the same to all users of a page, which must be in the order of ids.
    ///
    /// On disk when this returns; with `is_dry_run` nothing is changed, and the answer is what it would be. The same
    /// again does nothing more.
    ///
    /// # Errors
    /// The database does not answer, or takes no changes.
    pub async fn change_all(&self, page: &Page, change: &BulkChange, is_dry_run: bool) -> Result<BulkStep, StoreError> {
        // A page may be far apart in the table: no other request is to wait for a lock while it is looked for.
        let users = self.list(page).await?;
        let last = users.last().filter(|_| users.len() == page.rows as usize);
        let next = last.map(|user| page.sort.position(user));
        let ids: Vec<_> = users.iter().map(|user| user.id).collect();
        if ids.is_empty() {
            return Ok(BulkStep::default());
        }
        let work = Bulk { ids, filter: page.filter.clone(), change: change.clone(), dialect: self.dialect, is_dry_run };
        let now = UnixMillis::now();
        let emails = self.emails;
        let changing = self.perform_within(self.batch_deadline(), Access::Write, move |connection| {
            let work = work.clone();
            Box::pin(async move { work.run(connection, now, emails).await })
        });
        let step = self.observed(Query::bulk, async { Ok(changing.await?.value) }).await?;
        Ok(BulkStep { next, ..step })
    }
}

#[derive(Clone)]
struct Bulk {
    ids: Vec<UserId>,
    filter: Filter,
    change: BulkChange,
    dialect: Dialect,
    is_dry_run: bool,
}

// === impl Bulk ===

impl Bulk {
    async fn run(
        &self,
        connection: &mut dyn Connection,
        now: UnixMillis,
        emails: Emails,
    ) -> Result<BulkStep, DriverError> {
        connection.begin().await?;
        let done = self.all(connection, now, emails).await;
        end(connection, done, !self.is_dry_run).await
    }

    async fn all(
        &self,
        connection: &mut dyn Connection,
        now: UnixMillis,
        emails: Emails,
    ) -> Result<BulkStep, DriverError> {
        let rows = connection.rows(sql::among(&self.ids, &self.filter, self.dialect)).await?;
        let mut step = BulkStep::default();
        for row in rows {
            let user = sql::user(row)?;
            match &self.change {
                BulkChange::Delete => delete(connection, &user, &mut step).await?,
                BulkChange::Change(changes) => change(connection, &user, changes, now, emails, &mut step).await?,
            }
        }
        Ok(step)
    }
}

async fn delete(connection: &mut dyn Connection, user: &User, step: &mut BulkStep) -> Result<(), DriverError> {
    match connection.execute(sql::remove_version(user)).await? {
        Executed::Done { rows: 0, .. } => {
            Err(DriverError::Contended("another request changed the same user".to_owned()))
        }
        Executed::Done { .. } | Executed::Taken(_) => {
            step.deleted += 1;
            Ok(())
        }
    }
}

async fn change(
    connection: &mut dyn Connection,
    user: &User,
    changes: &Changes,
    now: UnixMillis,
    emails: Emails,
    step: &mut BulkStep,
) -> Result<(), DriverError> {
    match super::change(connection, user, changes, now, emails).await? {
        Ok(after) if after == *user => step.unchanged += 1,
        Ok(_) => step.changed += 1,
        Err(Refusal::Invalid(error)) => step.refused.push((user.id, error)),
        Err(Refusal::NoSuchUser | Refusal::Taken(_) | Refusal::Condition) => {
            step.refused.push((user.id, FieldError::new("user", "another user has the same name or address")));
        }
    }
    Ok(())
}
