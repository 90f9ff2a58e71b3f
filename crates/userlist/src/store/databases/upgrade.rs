//! Fills in what SQL cannot compute, for users that an older release stored: keys, and times that were not kept.
//!
//! It runs after the migrations, under their lock, and again whenever the database is opened, because instances of an
//! older release may go on adding users while the new one is rolled out.
//!
//! | what is missing | how it is known |
//! |---|---|
//! | all keys, and times | an empty `email_key` |
//! | the other spelling of a domain, and letters folded as they are searched for | `outdated_search_keys`, which the migration fills with who has more than ASCII |
//!
//! What an instance of an older release stores after that is found as that release found it, until it is changed again.

use service_kit::time::UnixMillis;

use crate::{
    store::{
        driver::{Connection, DriverError, Statement},
        sql,
    },
    user::EmailAddress,
};

/// Rows a transaction: enough to be quick, few enough not to hold up others for long.
const ROWS: i64 = 2_000;

/// Fills in what is missing, in steps that are committed one by one; starting again goes on where it ended.
pub(super) async fn fill_in(connection: &mut dyn Connection, now: UnixMillis) -> Result<(), DriverError> {
    let mut filled = 0;
    for (which, is_done) in [(MISSING, None), (OUTDATED, Some("DELETE FROM outdated_search_keys WHERE id <= ?"))] {
        loop {
            let rows = connection.rows(some(which)).await?;
            let Some(&(last, ..)) = rows.last() else { break };
            filled += rows.len();
            connection.begin().await?;
            for (id, name, email, ..) in rows {
                connection.execute(one(id, &name, &EmailAddress::stored(email), now)).await?;
            }
            if let Some(sql) = is_done {
                connection.execute(Statement::new(sql).bind(last)).await?;
            }
            connection.commit().await?;
        }
    }
    if filled > 0 {
        tracing::info!(users = filled, "filled in fields that users of an older release lack");
    }
    Ok(())
}

const MISSING: &str = "email_key = ''";
const OUTDATED: &str = "id IN (SELECT id FROM outdated_search_keys)";

fn some(which: &str) -> Statement {
    let sql = format!("SELECT {} FROM users WHERE {which} ORDER BY id LIMIT ?", sql::COLUMNS);
    Statement::new(sql).bind(ROWS)
}

/// Unless an instance has changed them since they were read.
fn one(id: i64, name: &str, email: &EmailAddress, now: UnixMillis) -> Statement {
    let statement = Statement::new(
        "UPDATE users SET email_key = ?, search_key = ?, \
         created_at = CASE created_at WHEN 0 THEN ? ELSE created_at END, \
         updated_at = CASE updated_at WHEN 0 THEN ? ELSE updated_at END WHERE id = ? AND name = ? AND email = ?",
    );
    let search_key = sql::search_key(name, email);
    let statement = statement.bind(email.key()).bind(search_key).bind(now.0).bind(now.0);
    statement.bind(id).bind(name).bind(email.as_str())
}
