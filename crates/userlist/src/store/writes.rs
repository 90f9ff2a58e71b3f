//! What changes users: create, put, patch, delete.
//!
//! A change reads the user, computes the next version, and stores it on condition that the version in between is the
//! one that was read: one statement, no lock that outlives it, and the answer is exactly what was stored. When another
//! request was faster, everything is done again with what it stored.

mod batch;
mod bulk;
mod scratch;

pub use batch::{BATCH_MAX, Imported};
pub use bulk::{BulkChange, BulkStep};
pub use scratch::Scratch;

use discovery::FieldError;
use service_kit::request;
use service_kit::time::UnixMillis;

use super::{
    Store, StoreError,
    attempts::Answered,
    driver::{Access, Connection, DriverError, Executed, Unique},
    metrics::Query,
    selection::Key,
    sql::{self, Emails},
};
use crate::user::{Changes, NewUser, Status, User, UserId};

/// What must be so for a change to be made: `If-Match` and `If-None-Match` of RFC 9110, section 13.1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// There is such a user (`If-Match: *`).
    Exists,
    /// There is none (`If-None-Match: *`).
    Absent,
    /// The user is one of these, in these versions.
    Versions(Vec<(UserId, i64)>),
}

/// What a [`Store::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// There was no user of that name.
    Created,
    /// The user is as wanted now, or was so already.
    Changed,
}

/// A change that was not made, because of what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    NoSuchUser,
    Taken(Unique),
    Condition,
    Invalid(FieldError),
}

type Outcome<T> = Result<Result<T, Refusal>, DriverError>;

// === impl Store ===

impl Store {
    /// Creates the user unless the name is taken.
    ///
    /// # Errors
    /// [`StoreError::UserExists`], [`StoreError::EmailTaken`], [`StoreError::OutcomeUnknown`]; or the database does not
    /// answer, or takes no changes.
    pub async fn create(&self, user: &NewUser) -> Result<User, StoreError> {
        let user = user.clone();
        let now = UnixMillis::now();
        let emails = self.emails;
        let creating = self.perform(Access::Write, move |connection| {
            let user = user.clone();
            Box::pin(async move { insert(connection, &user, now, emails).await })
        });
        self.observed(Query::create, async { settled(creating.await, Repeated::IsAnotherThing) }).await
    }

    /// Creates the user, or makes one who is there what `user` says: nothing that it does not name is left. What would
    /// be lost so is not: the caller says that it is to go.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the user has a status, tags or attributes that `user` does not name; and those of
    /// [`Store::put`].
    pub async fn replace(&self, user: &NewUser, condition: &Condition) -> Result<(User, Put), StoreError> {
        self.put_as(user, condition, Unnamed::MustBeDefault).await
    }

    /// Creates the user, or changes what `user` names. Any number of these at the same time end in one user with one
    /// id.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`], [`StoreError::EmailTaken`]; or the database does not answer, or takes no
    /// changes.
    pub async fn put(&self, user: &NewUser, condition: &Condition) -> Result<(User, Put), StoreError> {
        self.put_as(user, condition, Unnamed::Stays).await
    }

    async fn put_as(&self, user: &NewUser, condition: &Condition, unnamed: Unnamed) -> Result<(User, Put), StoreError> {
        let user = user.clone();
        let condition = condition.clone();
        let now = UnixMillis::now();
        let emails = self.emails;
        let repeated = Repeated::under(&condition);
        let putting = self.perform(Access::Write, move |connection| {
            let user = user.clone();
            let condition = condition.clone();
            Box::pin(async move { put(connection, &user, &condition, unnamed, now, emails).await })
        });
        self.observed(Query::put, async { settled(putting.await, repeated) }).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], [`StoreError::UserExists`] and [`StoreError::EmailTaken`] for the new name or
    /// address, [`StoreError::ConditionFailed`], [`StoreError::Invalid`] when merged attributes are too large,
    /// [`StoreError::OutcomeUnknown`]; or the database does not answer, or takes no changes.
    pub async fn patch(&self, key: &Key, changes: &Changes, condition: &Condition) -> Result<User, StoreError> {
        let key = key.clone();
        let changes = changes.clone();
        let condition = condition.clone();
        let now = UnixMillis::now();
        let emails = self.emails;
        let repeated = Repeated::under(&condition);
        let patching = self.perform(Access::Write, move |connection| {
            let key = key.clone();
            let changes = changes.clone();
            let condition = condition.clone();
            Box::pin(async move {
                match find(connection, &key).await? {
                    None => Ok(Err(Refusal::NoSuchUser)),
                    Some(user) if !condition.allows(Some(&user)) => Ok(Err(Refusal::Condition)),
                    Some(user) => change(connection, &user, &changes, now, emails).await,
                }
            })
        });
        self.observed(Query::patch, async { settled(patching.await, repeated) }).await
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], [`StoreError::ConditionFailed`]; or the database does not answer, or takes no
    /// changes.
    pub async fn delete(&self, key: &Key, condition: &Condition) -> Result<(), StoreError> {
        let key = key.clone();
        let condition = condition.clone();
        let deleting = self.perform(Access::Write, move |connection| {
            let key = key.clone();
            let condition = condition.clone();
            Box::pin(async move { delete(connection, &key, &condition).await })
        });
        let outcome = async {
            match deleting.await? {
                // Gone is gone, whichever attempt did it.
                Answered { value: Ok(()), .. } | Answered { value: Err(Refusal::NoSuchUser), is_repetition: true } => {
                    Ok(())
                }
                Answered { value: Err(refusal), .. } => Err(refusal.into()),
            }
        };
        self.observed(Query::delete, outcome).await
    }
}

/// What becomes of a field of a user who is there when it is not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unnamed {
    /// It stays.
    Stays,
    /// It is what it is for a new user. Where that is a change, it has to be named.
    MustBeDefault,
}

impl Unnamed {
    /// What is not named and would be lost.
    fn lost(self, user: &NewUser, found: &User) -> Option<FieldError> {
        if self == Self::Stays {
            return None;
        }
        let is_lost = [
            ("status", "\"active\"", user.status.is_none() && found.status != Status::default()),
            ("tags", "[]", user.tags.is_none() && !found.tags.is_empty()),
            ("attributes", "{}", user.attributes.is_none() && !found.attributes.is_empty()),
        ];
        let (field, default, _) = is_lost.into_iter().find(|(.., is_lost)| *is_lost)?;
        let reason = format!(
            "the user has it, and PUT replaces all that they have: name it as well, or {default}; PATCH changes only what it names"
        );
        Some(FieldError::new(field, reason))
    }
}

/// What the same change is when it is made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeated {
    /// The same as once.
    IsTheSame,
    /// Refused, because of the first time.
    IsAnotherThing,
}

impl Repeated {
    fn under(condition: &Condition) -> Self {
        match condition {
            Condition::Always | Condition::Exists => Self::IsTheSame,
            Condition::Absent | Condition::Versions(_) => Self::IsAnotherThing,
        }
    }
}

/// The result of a change; [`StoreError::OutcomeUnknown`] when it cannot be known whether it was made.
fn settled<T>(answered: Result<Answered<Result<T, Refusal>>, StoreError>, repeated: Repeated) -> Result<T, StoreError> {
    match answered {
        Ok(Answered { value: Ok(value), .. }) => Ok(value),
        Ok(Answered { value: Err(refusal @ Refusal::Invalid(_)), .. })
        | Ok(Answered { value: Err(refusal), is_repetition: false }) => Err(refusal.into()),
        // Because of another request, or of our first attempt.
        Ok(Answered { value: Err(_), is_repetition: true }) => Err(StoreError::OutcomeUnknown),
        Err(StoreError::Unavailable { is_in_doubt: true, .. }) if repeated == Repeated::IsAnotherThing => {
            tracing::debug!(request_id = request::current_id(), "outcome of a change unknown");
            Err(StoreError::OutcomeUnknown)
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn find(connection: &mut dyn Connection, key: &Key) -> Result<Option<User>, DriverError> {
    connection.rows(sql::find(key)).await?.into_iter().next().map(sql::user).transpose()
}

async fn put(
    connection: &mut dyn Connection,
    user: &NewUser,
    condition: &Condition,
    unnamed: Unnamed,
    now: UnixMillis,
    emails: Emails,
) -> Outcome<(User, Put)> {
    let found = find(connection, &Key::Name(user.name.clone())).await?;
    if !condition.allows(found.as_ref()) {
        return Ok(Err(Refusal::Condition));
    }
    if let Some(found) = found {
        if let Some(error) = unnamed.lost(user, &found) {
            return Ok(Err(Refusal::Invalid(error)));
        }
        let changed = change(connection, &found, &Changes::from(user), now, emails).await?;
        return Ok(changed.map(|user| (user, Put::Changed)));
    }
    match insert(connection, user, now, emails).await? {
        Err(Refusal::Taken(Unique::Name)) => {
            Err(DriverError::Contended("another request inserted the same name".to_owned()))
        }
        inserted => Ok(inserted.map(|user| (user, Put::Created))),
    }
}

async fn insert(connection: &mut dyn Connection, user: &NewUser, now: UnixMillis, emails: Emails) -> Outcome<User> {
    if emails == Emails::Unique && connection.number(sql::others_with(&user.email, 0)).await? > 0 {
        return Ok(match find(connection, &Key::Name(user.name.clone())).await? {
            Some(_) => Err(Refusal::Taken(Unique::Name)),
            None => Err(Refusal::Taken(Unique::Email)),
        });
    }
    Ok(match connection.execute(sql::insert(user, now, emails)).await? {
        Executed::Done { id, .. } => Ok(user.stored_as(id, now)),
        Executed::Taken(unique) => Err(Refusal::Taken(unique)),
    })
}

async fn change(
    connection: &mut dyn Connection,
    before: &User,
    changes: &Changes,
    now: UnixMillis,
    emails: Emails,
) -> Outcome<User> {
    let after = match changes.applied_to(before, now) {
        Ok(after) => after,
        Err(error) => return Ok(Err(Refusal::Invalid(error))),
    };
    if after == *before {
        return Ok(Ok(after));
    }
    let is_other_email = before.email.key() != after.email.key();
    if emails == Emails::Unique
        && is_other_email
        && connection.number(sql::others_with(&after.email, before.id.0)).await? > 0
    {
        return Ok(Err(Refusal::Taken(Unique::Email)));
    }
    match connection.execute(sql::update(before, &after, emails)).await? {
        Executed::Done { rows: 0, .. } => {
            Err(DriverError::Contended("another request changed the same user".to_owned()))
        }
        Executed::Done { .. } => Ok(Ok(after)),
        Executed::Taken(unique) => Ok(Err(Refusal::Taken(unique))),
    }
}

async fn delete(connection: &mut dyn Connection, key: &Key, condition: &Condition) -> Outcome<()> {
    let statement = match condition {
        Condition::Always | Condition::Exists => sql::remove(key),
        Condition::Absent | Condition::Versions(_) => match find(connection, key).await? {
            None => return Ok(Err(Refusal::NoSuchUser)),
            Some(user) if !condition.allows(Some(&user)) => return Ok(Err(Refusal::Condition)),
            Some(user) => sql::remove_version(&user),
        },
    };
    match (connection.execute(statement).await?, condition) {
        (Executed::Done { rows: 0, .. }, Condition::Versions(_)) => {
            Err(DriverError::Contended("another request changed the same user".to_owned()))
        }
        (Executed::Done { rows: 0, .. }, _) => Ok(Err(Refusal::NoSuchUser)),
        (Executed::Done { .. } | Executed::Taken(_), _) => Ok(Ok(())),
    }
}

// === impl Condition ===

impl Condition {
    fn allows(&self, user: Option<&User>) -> bool {
        match (self, user) {
            (Self::Always, _) | (Self::Exists, Some(_)) | (Self::Absent, None) => true,
            (Self::Versions(versions), Some(user)) => versions.contains(&(user.id, user.version)),
            (Self::Exists | Self::Versions(_), None) | (Self::Absent, Some(_)) => false,
        }
    }
}

// === impl Refusal ===

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchUser => Self::NoSuchUser,
            Refusal::Taken(Unique::Name) => Self::UserExists,
            Refusal::Taken(Unique::Email) => Self::EmailTaken,
            Refusal::Condition => Self::ConditionFailed,
            Refusal::Invalid(error) => Self::Invalid(error),
        }
    }
}
