//! Many users in one transaction: a step of an import.

use std::{collections::HashMap, sync::Arc, time::Duration};

use discovery::FieldError;

use super::{
    Store, StoreError,
    metrics::Query,
    session::{Access, Connection, Fault},
    sql::{self, Emails},
    statement::{Executed, Unique},
    writes::{self, Refusal},
};
use crate::user::{Changes, NewUser, Timestamp, User, UserName};

/// The most users of one batch: a few milliseconds of work, so that other writers of a SQLite file hardly notice.
pub const BATCH_MAX: usize = 500;

/// A batch is hundreds of statements, where a request is one or two.
const DEADLINES: u32 = 5;

/// What became of a user of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// There was nobody of that name.
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
    /// Puts all these users, or none of them but for the refused ones. The same batch again changes nothing more.
    /// Without `is_dry_run` on disk when this returns; with it, nothing is changed, and the answers are what they would be.
    ///
    /// No name may come twice, and there may be at most [`BATCH_MAX`].
    ///
    /// # Errors
    /// The database does not answer, or takes no changes.
    pub async fn put_batch(&self, users: Arc<[NewUser]>, is_dry_run: bool) -> Result<Vec<Imported>, StoreError> {
        let (now, emails) = (Timestamp::now(), self.emails);
        let access = if is_dry_run { Access::Read } else { Access::Write };
        let deadline = self.deadline.saturating_mul(DEADLINES).max(Duration::from_secs(1));
        let putting = self.perform_within(deadline, access, move |connection| {
            let users = Arc::clone(&users);
            Box::pin(async move {
                if is_dry_run {
                    try_out(connection, &users, now, emails).await
                } else {
                    put(connection, &users, now, emails).await
                }
            })
        });
        self.observed(Query::import, async { Ok(putting.await?.value) }).await
    }
}

async fn find(connection: &mut dyn Connection, users: &[NewUser]) -> Result<HashMap<UserName, User>, Fault> {
    let names: Vec<_> = users.iter().map(|user| &user.name).collect();
    let rows = connection.rows(sql::find_all(&names)).await?;
    rows.into_iter().map(|row| sql::user(row).map(|user| (user.name.clone(), user))).collect()
}

async fn try_out(
    connection: &mut dyn Connection,
    users: &[NewUser],
    now: Timestamp,
    emails: Emails,
) -> Result<Vec<Imported>, Fault> {
    let found = find(connection, users).await?;
    let mut imported = Vec::with_capacity(users.len());
    for user in users {
        let before = found.get(&user.name);
        let is_other_email = before.is_none_or(|before| before.email.key() != user.email.key());
        let is_taken = emails == Emails::Unique && is_other_email && {
            let id = before.map_or(0, |before| before.id.0);
            connection.number(sql::others_with(&user.email, id)).await? > 0
        };
        imported.push(match before {
            _ if is_taken => refused(Refusal::Taken(Unique::Email)),
            None => Imported::Created,
            Some(before) => match Changes::from(user).applied_to(before, now) {
                Ok(after) if after == *before => Imported::Unchanged,
                Ok(_) => Imported::Changed,
                Err(error) => Imported::Refused(error),
            },
        });
    }
    Ok(imported)
}

async fn put(
    connection: &mut dyn Connection,
    users: &[NewUser],
    now: Timestamp,
    emails: Emails,
) -> Result<Vec<Imported>, Fault> {
    connection.begin().await?;
    match put_all(connection, users, now, emails).await {
        Ok(imported) => connection.commit().await.map(|()| imported),
        // The connection goes back to the others only without a transaction.
        Err(fault) => match connection.roll_back().await {
            Ok(()) => Err(fault),
            Err(_) => Err(Fault::Lost(fault.reason().to_owned())),
        },
    }
}

async fn put_all(
    connection: &mut dyn Connection,
    users: &[NewUser],
    now: Timestamp,
    emails: Emails,
) -> Result<Vec<Imported>, Fault> {
    let found = find(connection, users).await?;
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
            Executed::Taken(_) => return Err(somebody_else()),
        }
    }
    Ok(imported)
}

async fn change(
    connection: &mut dyn Connection,
    before: &User,
    user: &NewUser,
    now: Timestamp,
    emails: Emails,
) -> Result<Imported, Fault> {
    Ok(match writes::change(connection, before, &Changes::from(user), now, emails).await? {
        Ok(after) if after == *before => Imported::Unchanged,
        Ok(_) => Imported::Changed,
        Err(refusal) => refused(refusal),
    })
}

/// One by one, because only so is it known who was refused.
async fn insert(
    connection: &mut dyn Connection,
    user: &NewUser,
    now: Timestamp,
    emails: Emails,
) -> Result<Imported, Fault> {
    match writes::insert(connection, user, now, emails).await? {
        Ok(_) => Ok(Imported::Created),
        Err(Refusal::Taken(Unique::Name)) => Err(somebody_else()),
        Err(refusal) => Ok(refused(refusal)),
    }
}

fn somebody_else() -> Fault {
    Fault::Contended("somebody else inserted one of the same names".to_owned())
}

fn refused(refusal: Refusal) -> Imported {
    Imported::Refused(match refusal {
        Refusal::Invalid(error) => error,
        Refusal::Taken(Unique::Email) => FieldError::new("email", "another user has this address"),
        Refusal::Taken(Unique::Name) | Refusal::NoSuchUser | Refusal::Condition => {
            FieldError::new("name", "somebody else changed this user at the same time; import the line again")
        }
    })
}
