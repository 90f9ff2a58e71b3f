//! What is asked of a database, in SQL that MySQL, MariaDB and SQLite understand alike, but for one expression
//! ([`Dialect`]).
//!
//! Text columns compare byte for byte in all of them. `INSTR` does too, and knows no wildcards.

use service_kit::text::case_folded;
use service_kit::time::UnixMillis;

use crate::user::{Attributes, EmailAddress, NewUser, Status, Tags, User, UserId, UserName};

use super::{
    driver::{DriverError, Row, Statement, Value},
    selection::{Filter, Key, Page, Period, Position, PositionKey, SortKey},
};

pub(crate) const COLUMNS: &str = "id, name, email, status, tags, attributes, version, created_at, updated_at";

/// Whether the table can be read.
pub(crate) const CHECK: &str = "SELECT id FROM users LIMIT 1";

const FIND_BY_NAME: &str =
    "SELECT id, name, email, status, tags, attributes, version, created_at, updated_at FROM users WHERE name = ?";
const FIND_BY_ID: &str =
    "SELECT id, name, email, status, tags, attributes, version, created_at, updated_at FROM users WHERE id = ?";
const INSERT: &str = "INSERT INTO users \
    (name, email, status, tags, attributes, created_at, updated_at, email_key, search_key, email_claim) VALUES ";
const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const INSERT_ONE: &str = "INSERT INTO users \
    (name, email, status, tags, attributes, created_at, updated_at, email_key, search_key, email_claim) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const UPDATE: &str = "UPDATE users SET name = ?, email = ?, status = ?, tags = ?, attributes = ?, version = ?, \
    updated_at = ?, email_key = ?, search_key = ? WHERE id = ? AND version = ?";
const UPDATE_WITH_CLAIM: &str = "UPDATE users SET email_claim = ?, name = ?, email = ?, status = ?, tags = ?, \
    attributes = ?, version = ?, updated_at = ?, email_key = ?, search_key = ? WHERE id = ? AND version = ?";

/// Whether addresses are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emails {
    Shared,
    Unique,
}

/// Which SQL a database speaks, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Mysql,
    Sqlite,
}

/// The most characters of a search key: what its column in MySQL holds.
const SEARCH_KEY_MAX_CHARS: usize = 1024;

// === impl Dialect ===

impl Dialect {
    /// The member of the attributes at a path, which is the value to bind, as JSON; null where there is none.
    fn attribute(self) -> &'static str {
        match self {
            // MySQL answers with a JSON value, and compares text without regard to case.
            Self::Mysql => "CAST(JSON_EXTRACT(attributes, ?) AS CHAR) COLLATE utf8mb4_bin",
            Self::Sqlite => "attributes -> ?",
        }
    }

    /// What makes others wait for rows that are read to be changed in the same transaction. Without it, a change of one
    /// of hundreds meanwhile makes the whole batch start again, and many such changes keep it from ever being done.
    /// SQLite has one writer.
    fn lock(self) -> &'static str {
        match self {
            Self::Mysql => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }
}

pub(super) fn find(key: &Key) -> Statement {
    match key {
        Key::Name(name) => Statement::new(FIND_BY_NAME).bind(name.as_str()),
        Key::Id(id) => Statement::new(FIND_BY_ID).bind(id.0),
    }
}

pub(super) fn find_all(names: &[&UserName]) -> Statement {
    of_names(names, "")
}

/// The same, to be changed in the transaction that is under way.
pub(super) fn find_all_to_change(names: &[&UserName], dialect: Dialect) -> Statement {
    of_names(names, dialect.lock())
}

fn of_names(names: &[&UserName], lock: &str) -> Statement {
    let places = vec!["?"; names.len()].join(", ");
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM users WHERE name IN ({places}){lock}"));
    statement.is_frequent = false;
    names.iter().fold(statement, |statement, name| statement.bind(name.as_str()))
}

/// Those who have one of these addresses; at most so many, for whom thousands share one from before that was refused.
pub(super) fn find_all_with(emails: &[&EmailAddress], most: i64) -> Statement {
    let places = vec!["?"; emails.len()].join(", ");
    let sql = format!("SELECT {COLUMNS} FROM users WHERE email_key IN ({places}) ORDER BY id LIMIT ?");
    let statement = emails.iter().fold(Statement::new(sql), |statement, email| statement.bind(email.key())).bind(most);
    Statement { is_frequent: false, ..statement }
}

/// Those of `ids` whom `filter` lets through, to be changed in the transaction that is under way.
pub(super) fn among(ids: &[UserId], filter: &Filter, dialect: Dialect) -> Statement {
    let places = vec!["?"; ids.len()].join(", ");
    let (mut conditions, mut values) = conditions(filter, dialect);
    conditions.push(format!("id IN ({places})"));
    values.extend(ids.iter().map(|id| Value::Number(id.0)));
    let sql = format!("SELECT {COLUMNS} FROM users{} ORDER BY id{}", all_of(&conditions), dialect.lock());
    Statement { sql: sql.into(), values, is_frequent: false, is_scan: false }
}

/// A user as they stand in another database, unless one of that id or name is here already. Only SQLite understands it.
pub(super) fn copy(user: &User) -> Statement {
    let statement = Statement::new(
        "INSERT OR IGNORE INTO users (id, name, email, status, tags, attributes, version, created_at, updated_at, \
         email_key, search_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
    );
    bind_details(statement.bind(user.id.0).bind(user.name.as_str()).bind(user.email.as_str()), user)
        .bind(user.version)
        .bind(user.created_at.0)
        .bind(user.updated_at.0)
        .bind(user.email.key())
}

/// Whether another user than `id` has this address. The index on claims does not know those from before addresses had
/// to be unique.
pub(super) fn others_with(email: &EmailAddress, id: i64) -> Statement {
    Statement::new("SELECT COUNT(*) FROM (SELECT id FROM users WHERE email_key = ? AND id <> ? LIMIT 1) AS others")
        .bind(email.key())
        .bind(id)
}

pub(super) fn insert(user: &NewUser, now: UnixMillis, emails: Emails) -> Statement {
    bind_new(Statement::new(INSERT_ONE), user, now, emails)
}

pub(super) fn insert_all(users: &[&NewUser], now: UnixMillis, emails: Emails) -> Statement {
    let mut statement = Statement::new(format!("{INSERT}{}", vec![ROW; users.len()].join(", ")));
    statement.is_frequent = false;
    users.iter().fold(statement, |statement, user| bind_new(statement, user, now, emails))
}

fn bind_new(statement: Statement, user: &NewUser, now: UnixMillis, emails: Emails) -> Statement {
    let user = user.stored_as(0, now);
    bind_details(statement.bind(user.name.as_str()).bind(user.email.as_str()), &user)
        .bind(now.0)
        .bind(now.0)
        .bind(user.email.key())
        .bind(search_key(user.name.as_str(), &user.email))
        .bind(claim(&user.email, emails))
}

/// Stores what `after` has other than `before`, if no other request did so in between.
pub(super) fn update(before: &User, after: &User, emails: Emails) -> Statement {
    // A user who shares an address from before may be changed in other things.
    let statement = if before.email.key() == after.email.key() {
        Statement::new(UPDATE)
    } else {
        Statement::new(UPDATE_WITH_CLAIM).bind(claim(&after.email, emails))
    };
    bind_details(statement.bind(after.name.as_str()).bind(after.email.as_str()), after)
        .bind(after.version)
        .bind(after.updated_at.0)
        .bind(after.email.key())
        .bind(search_key(after.name.as_str(), &after.email))
        .bind(before.id.0)
        .bind(before.version)
}

pub(super) fn remove(key: &Key) -> Statement {
    match key {
        Key::Name(name) => Statement::new("DELETE FROM users WHERE name = ?").bind(name.as_str()),
        Key::Id(id) => Statement::new("DELETE FROM users WHERE id = ?").bind(id.0),
    }
}

pub(super) fn remove_version(user: &User) -> Statement {
    Statement::new("DELETE FROM users WHERE id = ? AND version = ?").bind(user.id.0).bind(user.version)
}

pub(super) fn page(page: &Page, dialect: Dialect) -> Statement {
    let column = column(page.sort.key, &page.filter);
    let (direction, than) = if page.sort.is_descending { ("DESC", "<") } else { ("ASC", ">") };
    let (mut conditions, mut values) = conditions(&page.filter, dialect);
    if let Some(Position { key, id }) = &page.after {
        let key = match key {
            PositionKey::Id => None,
            PositionKey::Text(text) => Some(Value::Text(text.clone())),
            PositionKey::Number(number) => Some(Value::Number(*number)),
        };
        match key {
            None => conditions.push(format!("id {than} ?")),
            Some(key) => {
                // The first part alone would do, but databases only see in the second where to begin in the index.
                conditions.push(format!("({column} {than} ? OR id {than} ?) AND {column} {than}= ?"));
                values.extend([key.clone(), Value::Number(*id), key]);
            }
        }
        if page.sort.key == SortKey::Id {
            values.push(Value::Number(*id));
        }
    }
    let order = match page.sort.key {
        SortKey::Id => format!("id {direction}"),
        _ => format!("{column} {direction}, id {direction}"),
    };
    values.push(Value::Number(i64::from(page.rows)));
    let sql = format!("SELECT {COLUMNS} FROM users{} ORDER BY {order} LIMIT ?", all_of(&conditions));
    Statement { sql: sql.into(), values, is_frequent: true, is_scan: page.filter.is_scan() }
}

pub(super) fn count(filter: &Filter, dialect: Dialect) -> Statement {
    let (conditions, values) = conditions(filter, dialect);
    let sql = format!("SELECT COUNT(*) FROM users{}", all_of(&conditions));
    Statement { sql: sql.into(), values, is_frequent: true, is_scan: true }
}

fn conditions(filter: &Filter, dialect: Dialect) -> (Vec<String>, Vec<Value>) {
    let Filter { status, tag, text, email, name, attributes, created, updated } = filter;
    let with_value: [Option<(&str, Value)>; 5] = [
        name.as_ref().map(|name| ("name = ?", name.as_str().into())),
        email.as_ref().map(|email| ("email_key = ?", email.key().into())),
        status.map(|status| ("status = ?", status.as_str().into())),
        // As it stands in the list; a tag has no character that JSON would escape.
        tag.as_ref().map(|tag| ("INSTR(tags, ?) > 0", format!("\"{}\"", tag.as_str()).into())),
        text.as_ref().map(|text| ("INSTR(search_key, ?) > 0", text.as_str().into())),
    ];
    let with_value = with_value.into_iter().flatten().map(|(sql, value)| (sql.to_owned(), value));
    let times = [within("created_at", *created), within("updated_at", *updated)];
    let (mut conditions, mut values): (Vec<_>, Vec<_>) = with_value.chain(times.into_iter().flatten()).unzip();
    for filter in attributes {
        conditions.push(format!("{} IN (?, ?)", dialect.attribute()));
        values.push(filter.path().into());
        values.extend(filter.values().iter().map(|value| Value::from(&**value)));
    }
    (conditions, values)
}

fn within(column: &str, period: Period) -> impl Iterator<Item = (String, Value)> + use<> {
    let since = period.since.map(|since| (format!("{column} >= ?"), Value::Number(since.0)));
    let before = period.before.map(|before| (format!("{column} < ?"), Value::Number(before.0)));
    since.into_iter().chain(before)
}

fn all_of(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// What to sort by; as an expression where the index is not to be used. None of the columns is ever null.
fn column(key: SortKey, filter: &Filter) -> &'static str {
    match (key, filter.is_selective()) {
        (SortKey::Id, _) => "id",
        (SortKey::Name, false) => "name",
        (SortKey::Name, true) => "COALESCE(name, '')",
        (SortKey::Email, false) => "email_key",
        (SortKey::Email, true) => "COALESCE(email_key, '')",
        (SortKey::UpdatedAt, false) => "updated_at",
        (SortKey::UpdatedAt, true) => "COALESCE(updated_at, 0)",
    }
}

fn bind_details(statement: Statement, user: &User) -> Statement {
    let json = |text: serde_json::Result<String>| text.expect("strings and JSON values always become JSON");
    let tags = (!user.tags.is_empty()).then(|| json(serde_json::to_string(&user.tags)));
    let attributes = (!user.attributes.is_empty()).then(|| json(serde_json::to_string(&user.attributes)));
    statement.bind(user.status.as_str()).bind(tags).bind(attributes)
}

fn claim(email: &EmailAddress, emails: Emails) -> Option<String> {
    (emails == Emails::Unique).then(|| email.key())
}

/// What [`Filter::text`] is searched in: name and address without case, the latter in both spellings where it has two.
/// No text that is searched for has a line end.
pub(super) fn search_key(name: &str, email: &EmailAddress) -> String {
    let ascii = case_folded(&email.key());
    let mut key = format!("{}\n{ascii}", case_folded(name));
    let unicode = case_folded(&email.to_unicode());
    if unicode != ascii {
        key.push('\n');
        key.push_str(&unicode);
    }
    // Only what folds to three characters for each of its own comes so far.
    match key.char_indices().nth(SEARCH_KEY_MAX_CHARS) {
        Some((end, _)) => key[..end].to_owned(),
        None => key,
    }
}

/// A user as it stands in the table.
pub(super) fn user(row: Row) -> Result<User, DriverError> {
    let (id, name, email, status, tags, attributes, version, created_at, updated_at) = row;
    let wrong = |column: &str| DriverError::Unusable(format!("column {column} holds something else than expected"));
    let status = status.parse::<Status>().map_err(|_| wrong("status"))?;
    let tags = match tags {
        Some(tags) => Tags::stored(serde_json::from_str(&tags).map_err(|_| wrong("tags"))?),
        None => Tags::default(),
    };
    let attributes = match attributes {
        Some(attributes) => Attributes::stored(serde_json::from_str(&attributes).map_err(|_| wrong("attributes"))?),
        None => Attributes::default(),
    };
    Ok(User {
        id: UserId(id),
        name: UserName::stored(name),
        email: EmailAddress::stored(email),
        status,
        tags,
        attributes,
        version,
        created_at: UnixMillis(created_at),
        updated_at: UnixMillis(updated_at),
    })
}
