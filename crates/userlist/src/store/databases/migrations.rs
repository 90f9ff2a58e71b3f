//! The tables as SQL, a file for each change of them, embedded.
//!
//! sqlx's macro for this compiles sqlx, both drivers and SQLite a second time, for the compiler itself. What a database
//! keeps of a migration is the same either way.

use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// `migrations/NUMBER_NAME.sql` as (number, name, SQL).
type File = (i64, &'static str, &'static str);

/// `migrations/sqlite`.
const SQLITE: [File; 3] = [
    (1, "users", include_str!("../../../migrations/sqlite/0001_users.sql")),
    (2, "details", include_str!("../../../migrations/sqlite/0002_details.sql")),
    (3, "search keys", include_str!("../../../migrations/sqlite/0003_search_keys.sql")),
];
/// `migrations/mysql`.
const MYSQL: [File; 3] = [
    (1, "users", include_str!("../../../migrations/mysql/0001_users.sql")),
    (2, "details", include_str!("../../../migrations/mysql/0002_details.sql")),
    (3, "search keys", include_str!("../../../migrations/mysql/0003_search_keys.sql")),
];

/// For SQLite.
pub(super) fn sqlite() -> Migrator {
    migrator(&SQLITE)
}

/// For MySQL and MariaDB.
pub(super) fn mysql() -> Migrator {
    migrator(&MYSQL)
}

fn migrator(files: &[File]) -> Migrator {
    let migration = |(version, name, sql): &File| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(files.iter().map(migration).collect());
    // Missing ones are those of a newer release, whose instances may run beside this one: migrations only ever add.
    migrator.set_ignore_missing(true);
    migrator
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// As sqlx reads the folder.
    async fn of_folder(database: &str) -> Vec<Migration> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
        Migrator::new(folder).await.unwrap().iter().cloned().collect()
    }

    #[tokio::test]
    async fn what_is_embedded_is_what_sqlx_makes_of_the_folders() {
        for (database, embedded) in [("sqlite", sqlite()), ("mysql", mysql())] {
            let key = |one: &Migration| {
                (
                    one.version,
                    one.description.to_string(),
                    one.checksum.to_vec(),
                    one.no_tx,
                    one.sql.as_str().to_owned(),
                )
            };
            let embedded: Vec<_> = embedded.iter().map(key).collect();
            let of_folder: Vec<_> = of_folder(database).await.iter().map(key).collect();
            assert_eq!(embedded, of_folder, "{database}");
        }
    }
}
