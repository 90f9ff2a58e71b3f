//! The kinds of databases: connections, limits, migrations.

mod kept;
mod migrations;
mod mysql;
mod sqlite;
mod upgrade;

pub(super) use mysql::Mysql;
pub(super) use sqlite::{Sqlite, temporary};
