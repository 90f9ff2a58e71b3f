//! Fills in what SQL cannot compute, for users that an older release stored: keys, and times nobody kept.
//!
//! It runs after the migrations, under their lock, and again whenever the database is opened, because instances of an
//! older release may go on adding users while the new one is rolled out. An address that such an instance changes is
//! found under its old spelling until it is changed again.

use super::{
    session::{Connection, Fault},
    sql,
    statement::Statement,
};
use crate::user::{EmailAddress, Timestamp};

/// Rows a transaction: enough to be quick, few enough not to hold up others for long.
const ROWS: i64 = 2_000;

/// Fills in what is missing, in steps that are committed one by one; starting again goes on where it ended.
pub(super) async fn fill_in(connection: &mut dyn Connection, now: Timestamp) -> Result<(), Fault> {
    let mut filled = 0;
    loop {
        let rows = connection.rows(missing()).await?;
        if rows.is_empty() {
            break;
        }
        filled += rows.len();
        connection.begin().await?;
        for (id, name, email, ..) in rows {
            connection.execute(one(id, &name, &EmailAddress::stored(email), now)).await?;
        }
        connection.commit().await?;
    }
    if filled > 0 {
        tracing::info!(users = filled, "filled in what users from an older release lack");
    }
    Ok(())
}

fn missing() -> Statement {
    let sql = format!("SELECT {} FROM users WHERE email_key = '' LIMIT ?", sql::COLUMNS);
    Statement::new(sql).bind(ROWS)
}

fn one(id: i64, name: &str, email: &EmailAddress, now: Timestamp) -> Statement {
    let statement = Statement::new(
        "UPDATE users SET email_key = ?, search_key = ?, \
         created_at = CASE created_at WHEN 0 THEN ? ELSE created_at END, \
         updated_at = CASE updated_at WHEN 0 THEN ? ELSE updated_at END WHERE id = ?",
    );
    let key = email.key();
    let search_key = sql::search_key(name, &key);
    statement.bind(key).bind(search_key).bind(now.0).bind(now.0).bind(id)
}
