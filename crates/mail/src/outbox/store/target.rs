//! Which database it is, and what is particular to each kind.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use url::Url;

/// Which database, as `--outbox-url` says it.
#[derive(Clone)]
pub enum DatabaseTarget {
    /// A file, created when it is missing.
    Sqlite(PathBuf),
    /// `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    Mysql(Box<Url>),
}

// === impl DatabaseTarget ===

impl DatabaseTarget {
    /// Reads the URL.
    ///
    /// # Errors
    /// Says what to write, without the URL, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':') {
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("mysql" | "mariadb", _)) => {
                let url = Url::parse(text).map_err(|_| "it cannot be read; write mysql://USER@HOST:PORT/DATABASE")?;
                match url.path().trim_matches('/') {
                    "" => Err("it names no database; write mysql://USER@HOST:PORT/DATABASE"),
                    _ => Ok(Self::Mysql(Box::new(url))),
                }
            }
            _ => Err("it must begin with sqlite: or mysql://"),
        }
    }

    /// Whether rows that another instance holds are passed over.
    pub(super) fn for_update(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Mysql(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// After the name of the deliveries' table: those of some messages are wanted. Both databases might go through all
    /// that are due instead, which costs more the more there are.
    pub(super) fn by_message(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => " INDEXED BY deliveries_message",
            Self::Mysql(_) => " FORCE INDEX (deliveries_message)",
        }
    }

    /// Where the file is, of a database that is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => {
                file.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder })
            }
            Self::Mysql(_) => None,
        }
    }

    /// Whether it is one for all instances, wherever they run.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Mysql(_))
    }

    /// What makes the tables, and brings older ones up to date.
    pub(super) fn schema(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => include_str!("sqlite.sql"),
            Self::Mysql(_) => include_str!("mysql.sql"),
        }
    }

    /// Rows that are read to be relied on keep others waiting.
    pub(super) fn lock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Mysql(_) => " FOR UPDATE",
        }
    }
}

fn sqlite(rest: &str) -> Result<DatabaseTarget, &'static str> {
    let file = rest.strip_prefix("//").unwrap_or(rest);
    if file.contains('?') {
        return Err("sqlite takes no parameters; write sqlite:FILE, with a '?' in its name as %3F");
    }
    let file = percent_encoding::percent_decode_str(file).decode_utf8().map_err(|_| "the file's name is not UTF-8")?;
    match &*file {
        "" => Err("it names no file; write sqlite:FILE"),
        ":memory:" => Err("messages in memory would be lost at the end; write sqlite:FILE"),
        file => Ok(DatabaseTarget::Sqlite(file.into())),
    }
}

/// For a log: without user and password.
impl fmt::Display for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Mysql(url) => {
                write!(f, "mysql://{}:{}{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(3306), url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_which_database_and_a_log_shows_no_password() {
        for (url, shown) in [
            ("sqlite:./data/outbox.db", "sqlite:./data/outbox.db"),
            ("sqlite:///var/lib/mail.db", "sqlite:/var/lib/mail.db"),
            ("mysql://u:hunter2@db/mail", "mysql://db:3306/mail"),
            ("mariadb://u:hunter2@db:3307/mail", "mysql://db:3307/mail"),
        ] {
            let target = DatabaseTarget::parse(url).unwrap();
            assert_eq!((target.to_string().as_str(), format!("{target:?}").as_str()), (shown, shown));
        }
        for bad in ["", "outbox.db", "postgres://h/d", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://h/"] {
            assert!(DatabaseTarget::parse(bad).is_err(), "{bad}");
        }
    }
}
