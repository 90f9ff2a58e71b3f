//! Many users in one transaction: a step of an import.

use std::{collections::HashMap, sync::Arc, time::Duration};

use discovery::FieldError;
use service_kit::time::UnixMillis;

use super::Refusal;
use crate::{
    store::{
        Store, StoreError,
        driver::{Access, Connection, DriverError, Executed, Unique},
        metrics::Query,
        sql::{self, Dialect, Emails},
    },
    user::{Changes, NewUser, User, UserName},
};

/// The most users of one batch: a few milliseconds of work, so that other writers of a SQLite file hardly notice.
pub const BATCH_MAX: usize = 500;

/// A batch is hundreds of statements, where a request is one or two.
const DEADLINES: u32 = 5;

/// What became of a user of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// There was no user of that name.
    Created,
    /// Something is different now.
    Changed,
    /// They were like this already.
    Unchanged,
    /// They were not stored; the others were.
    Refused(FieldError),
}

// === impl Store ===

impl Store {
    /// Puts all these users, or none of them but for the refused ones; on disk when this returns. The same batch again
    /// changes nothing more.
    ///
    /// No name may come twice, and there may be at most [`BATCH_MAX`].
    ///
    /// # Errors
    /// The database does not answer, or takes no changes.
    pub async fn put_batch(&self, users: Arc<[NewUser]>) -> Result<Vec<Imported>, StoreError> {
        let now = UnixMillis::now();
        let emails = self.emails;
        let dialect = self.dialect;
        let putting = self.perform_within(self.batch_deadline(), Access::Write, move |connection| {
            let users = Arc::clone(&users);
            Box::pin(async move { put(connection, &users, now, emails, dialect).await })
        });
        self.observed(Query::import, async { Ok(putting.await?.value) }).await
    }

    pub(super) fn batch_deadline(&self) -> Duration {
        self.deadline.saturating_mul(DEADLINES).max(Duration::from_secs(1))
    }
}

async fn find(
    connection: &mut dyn Connection,
    users: &[NewUser],
    dialect: Dialect,
) -> Result<HashMap<UserName, User>, DriverError> {
    let names: Vec<_> = users.iter().map(|user| &user.name).collect();
    let rows = connection.rows(sql::find_all_to_change(&names, dialect)).await?;
    rows.into_iter().map(|row| sql::user(row).map(|user| (user.name.clone(), user))).collect()
}

/// What an import does with a batch: with the users, or in a dry run with a [copy](super::Scratch) of them.
pub(super) async fn put(
    connection: &mut dyn Connection,
    users: &[NewUser],
    now: UnixMillis,
    emails: Emails,
    dialect: Dialect,
) -> Result<Vec<Imported>, DriverError> {
    connection.begin().await?;
    let imported = put_all(connection, users, now, emails, dialect).await;
    end(connection, imported, true).await
}

/// Ends a transaction: keeps what was done, when all of it was and it is to be kept. The connection goes back to the
/// others only without a transaction.
pub(super) async fn end<T>(
    connection: &mut dyn Connection,
    done: Result<T, DriverError>,
    is_to_be_kept: bool,
) -> Result<T, DriverError> {
    match done {
        Ok(value) if is_to_be_kept => connection.commit().await.map(|()| value),
        done => match (done, connection.roll_back().await) {
            (done, Ok(())) => done,
            (Ok(_), Err(error)) => Err(error),
            (Err(error), Err(_)) => Err(DriverError::Lost(error.reason().to_owned())),
        },
    }
}

async fn put_all(
    connection: &mut dyn Connection,
    users: &[NewUser],
    now: UnixMillis,
    emails: Emails,
    dialect: Dialect,
) -> Result<Vec<Imported>, DriverError> {
    let found = find(connection, users, dialect).await?;
    let mut imported = Vec::with_capacity(users.len());
    let mut new = Vec::new();
    for user in users {
        imported.push(match found.get(&user.name) {
            Some(before) => change(connection, before, user, now, emails).await?,
            None if emails == Emails::Unique => insert(connection, user, now, emails).await?,
            None => {
                new.push(user);
                Imported::Created
            }
        });
    }
    if !new.is_empty() {
        match connection.execute(sql::insert_all(&new, now, emails)).await? {
            Executed::Done { .. } => {}
            Executed::Taken(_) => return Err(concurrent_insert()),
        }
    }
    Ok(imported)
}

async fn change(
    connection: &mut dyn Connection,
    before: &User,
    user: &NewUser,
    now: UnixMillis,
    emails: Emails,
) -> Result<Imported, DriverError> {
    Ok(match super::change(connection, before, &Changes::from(user), now, emails).await? {
        Ok(after) if after == *before => Imported::Unchanged,
        Ok(_) => Imported::Changed,
        Err(refusal) => refused(refusal),
    })
}

/// One by one, because only so is it known who was refused.
async fn insert(
    connection: &mut dyn Connection,
    user: &NewUser,
    now: UnixMillis,
    emails: Emails,
) -> Result<Imported, DriverError> {
    match super::insert(connection, user, now, emails).await? {
        Ok(_) => Ok(Imported::Created),
        Err(Refusal::Taken(Unique::Name)) => Err(concurrent_insert()),
        Err(refusal) => Ok(refused(refusal)),
    }
}

fn concurrent_insert() -> DriverError {
    DriverError::Contended("another request inserted one of the same names".to_owned())
}

fn refused(refusal: Refusal) -> Imported {
    Imported::Refused(match refusal {
        Refusal::Invalid(error) => error,
        Refusal::Taken(Unique::Email) => FieldError::new("email", "another user has this address"),
        Refusal::Taken(Unique::Name) | Refusal::NoSuchUser | Refusal::Condition => {
            FieldError::new("name", "another request changed this user at the same time; import the line again")
        }
    })
}
