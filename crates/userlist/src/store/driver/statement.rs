//! A statement with its values, and what comes back: the form in which `sql` and the kinds of databases meet.

use std::borrow::Cow;

/// SQL with a `?` for each value.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
    /// Whether it comes again and again, so that preparing it pays.
    pub(crate) is_frequent: bool,
    /// Whether it may read all rows, so that the database should give it up at the deadline.
    pub(crate) is_scan: bool,
}

/// A value of a statement.
#[derive(Clone)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    Null,
}

/// A row of [`sql::COLUMNS`](crate::store::sql::COLUMNS), in their order.
pub(crate) type Row = (i64, String, String, String, Option<String>, Option<String>, i64, i64, i64);

/// What a statement that changes rows did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Executed {
    /// So many rows were found (not: are different now), and this id was given.
    Done { rows: u64, id: i64 },
    /// Nothing: another user has it already.
    Taken(Unique),
}

/// What no two users have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unique {
    Name,
    Email,
}

// === impl Statement ===

impl Statement {
    pub(crate) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), is_frequent: true, is_scan: false }
    }

    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A name, an address.
        f.write_str("…")
    }
}

// === impl Unique ===

impl Unique {
    /// Which index a database's message about a duplicate is about: its name ends the message. What comes before may be
    /// what a user sent.
    pub(crate) fn of_message(message: &str) -> Self {
        let is_email = ["users_email_claim'", "users_email_claim", "users.email_claim"];
        if is_email.iter().any(|end| message.ends_with(end)) { Self::Email } else { Self::Name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_told_from_what_a_user_sent() {
        for (message, unique) in [
            ("UNIQUE constraint failed: users.name", Unique::Name),
            ("UNIQUE constraint failed: users.email_claim", Unique::Email),
            ("Duplicate entry 'a@b.c' for key 'users_email_claim'", Unique::Email),
            ("Duplicate entry 'a@b.c' for key 'users.users_email_claim'", Unique::Email),
            ("Duplicate entry 'users_email_claim' for key 'users_name'", Unique::Name),
        ] {
            assert_eq!(Unique::of_message(message), unique, "{message}");
        }
    }
}
