use discovery::FieldError;

use super::driver::DriverError;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No user has that name or id.
    #[error("there is no such user")]
    NoSuchUser,
    /// Another user has that name; nothing was changed.
    #[error("a user has that name")]
    UserExists,
    /// Another user has that address, and addresses are to be unique; nothing was changed.
    #[error("a user has that address")]
    EmailTaken,
    /// The user is not, or is in another version than the caller knows; nothing was changed.
    #[error("the condition does not hold")]
    ConditionFailed,
    /// What the change would lead to is not allowed; nothing was changed.
    #[error(transparent)]
    Invalid(FieldError),
    /// The database is gone, silent or too busy.
    #[error("the database cannot be used: {reason}")]
    Unavailable {
        /// For the log.
        reason: String,
        /// The change may have been made all the same. It is one of those that may be made again.
        is_in_doubt: bool,
    },
    /// Whether the change was made is not known, and it is not one of those that may be made again. Look first.
    #[error("the database broke off before it answered")]
    OutcomeUnknown,
    /// Reads work, changes do not; nothing was changed.
    #[error("the database takes no changes: {reason}")]
    ReadOnly {
        /// For the log.
        reason: String,
    },
    /// Nothing was changed.
    #[error("the database has no space left: {reason}")]
    Full {
        /// For the log.
        reason: String,
    },
    /// A bug.
    #[error("a query failed in an unexpected way: {reason}")]
    Failed {
        /// For the log.
        reason: String,
    },
}

// === impl StoreError ===

impl StoreError {
    /// The stable word for it, in error bodies and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchUser => "no_such_user",
            Self::UserExists => "user_exists",
            Self::EmailTaken => "email_taken",
            Self::ConditionFailed => "condition_failed",
            Self::Invalid(_) => "invalid_field",
            Self::Unavailable { .. } => "database_unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ReadOnly { .. } => "read_only",
            Self::Full { .. } => "database_full",
            Self::Failed { .. } => "internal",
        }
    }
}

impl From<DriverError> for StoreError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::NotReached(reason)
            | DriverError::Lost(reason)
            | DriverError::Contended(reason)
            | DriverError::Unusable(reason) => Self::Unavailable { reason, is_in_doubt: false },
            DriverError::ReadOnly(reason) => Self::ReadOnly { reason },
            DriverError::Full(reason) => Self::Full { reason },
            DriverError::Unexpected(reason) => Self::Failed { reason },
        }
    }
}
