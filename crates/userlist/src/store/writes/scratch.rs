//! What an import would do: the same work as that of an import, on a copy that is thrown away.
//!
//! A transaction that is rolled back at the end of the file would show the same, and would keep all other requests from
//! changing anything until then (SQLite has one writer). So the users that a batch concerns are copied into a database
//! of its own, a temporary file that SQLite removes, and stay there as the batch left them for the batches that follow:
//! a name or an address that comes twice in one file is what it would be.

use std::{collections::HashMap, sync::Arc};

use service_kit::time::UnixMillis;

use super::batch::{self, Imported};
use crate::{
    store::{
        Store, StoreError, databases,
        driver::{Access, Connection, DriverError},
        metrics::Query,
        sql::{self, Dialect, Emails},
    },
    user::{NewUser, User, UserId},
};

/// The most users who share addresses of one batch, from before addresses had to be unique, that are copied.
const SHARING_MAX: i64 = 10_000;

/// The users that a dry run concerns, as it would leave them.
pub struct Scratch {
    connection: Box<dyn Connection>,
}

// === impl Store ===

impl Store {
    /// A copy for one dry run.
    ///
    /// # Errors
    /// There is no room for it.
    pub async fn scratch(&self) -> Result<Scratch, StoreError> {
        Ok(Scratch { connection: databases::temporary().await? })
    }

    /// What [`Store::put_batch`] would do after all that was tried on `scratch` before. Changes nothing.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn try_batch(&self, scratch: &mut Scratch, users: Arc<[NewUser]>) -> Result<Vec<Imported>, StoreError> {
        let now = UnixMillis::now();
        let emails = self.emails;
        let wanted = Arc::clone(&users);
        let reading = self.perform_within(self.batch_deadline(), Access::Read, move |connection| {
            let users = Arc::clone(&wanted);
            Box::pin(async move { concerned(connection, &users, emails).await })
        });
        self.observed(Query::import, async {
            scratch.add(reading.await?.value).await?;
            Ok(batch::put(&mut *scratch.connection, &users, now, emails, Dialect::Sqlite).await?)
        })
        .await
    }
}

/// Those who have one of the names, and where addresses are unique, one of the addresses.
async fn concerned(
    connection: &mut dyn Connection,
    users: &[NewUser],
    emails: Emails,
) -> Result<Vec<User>, DriverError> {
    let names: Vec<_> = users.iter().map(|user| &user.name).collect();
    let mut rows = connection.rows(sql::find_all(&names)).await?;
    if emails == Emails::Unique {
        let emails: Vec<_> = users.iter().map(|user| &user.email).collect();
        rows.extend(connection.rows(sql::find_all_with(&emails, SHARING_MAX)).await?);
    }
    let users = rows.into_iter().map(|row| sql::user(row).map(|user| (user.id, user)));
    Ok(users.collect::<Result<HashMap<UserId, User>, DriverError>>()?.into_values().collect())
}

// === impl Scratch ===

impl Scratch {
    /// Those who are there already stay as the dry run left them.
    async fn add(&mut self, users: Vec<User>) -> Result<(), DriverError> {
        self.connection.begin().await?;
        for user in &users {
            self.connection.execute(sql::copy(user)).await?;
        }
        self.connection.commit().await
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}
