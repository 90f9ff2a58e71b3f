//! Which database, and what is asked of it: flags and variables.

use std::{path::PathBuf, time::Duration};

use clap::ArgAction;
use service_kit::{Secret, duration};
use sqlx::mysql::MySqlConnectOptions;
use url::Url;

/// Where the users are, and what the service asks of their database.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseOptions {
    /// The database: sqlite:FILE, or mysql://USER:PASSWORD@HOST:PORT/DATABASE for MySQL and MariaDB. Special characters
    /// are percent-encoded, and mysql takes ?ssl-mode=, ssl-ca=, ssl-cert=, ssl-key= and socket=.
    ///
    /// It need not be there yet: the service starts, answers 503, and opens it when it comes. A missing SQLite file and
    /// its folder are created.
    #[arg(
        long = "database-url",
        env = "USERLIST_DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite:./data/userlist.db",
        hide_env_values = true,
        global = true
    )]
    pub url: Secret,

    /// A file that holds the password, for a URL that does not.
    #[arg(
        long = "database-password-file",
        env = "USERLIST_DATABASE_PASSWORD_FILE",
        value_name = "FILE",
        global = true
    )]
    pub password_file: Option<PathBuf>,

    /// The most connections at the same time, 1 to 1000. SQLite uses as many for reading, and one for writing.
    #[arg(
        long = "database-connections",
        env = "USERLIST_DATABASE_CONNECTIONS",
        value_name = "COUNT",
        default_value_t = 10,
        global = true,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub connections: u32,

    /// How long a request may wait for the database, all attempts together; half of it for a connection.
    #[arg(
        long = "database-deadline",
        env = "USERLIST_DATABASE_DEADLINE",
        value_name = "DURATION",
        default_value = "2s",
        global = true,
        value_parser = duration::parse_positive
    )]
    pub deadline: Duration,

    /// Refuses an address that another user has, however it is spelt. Users who share one already keep it.
    #[arg(long, env = "USERLIST_UNIQUE_EMAILS", value_name = "BOOL", default_value_t = false, action = ArgAction::Set, global = true)]
    pub unique_emails: bool,
}

/// A kind of database, and where it is.
#[derive(Clone)]
pub enum DatabaseKind {
    /// MySQL or MariaDB.
    Mysql(Box<MySqlConnectOptions>),
    /// A file.
    Sqlite(PathBuf),
}

/// What may be asked of a database, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// [`DatabaseOptions::connections`].
    pub connections: u32,
    /// [`DatabaseOptions::deadline`].
    pub deadline: Duration,
    /// [`DatabaseOptions::unique_emails`].
    pub unique_emails: bool,
}

/// What is wrong with the URL of a database; without the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct DatabaseMistake {
    option: &'static str,
    reason: String,
}

const URL_OPTION: &str = "--database-url (USERLIST_DATABASE_URL)";
const PASSWORD_OPTION: &str = "--database-password-file (USERLIST_DATABASE_PASSWORD_FILE)";

/// What sqlx understands and we let through; it ignores what it does not know, a mistyped `ssl-mode` included.
const MYSQL_PARAMETERS: [&str; 9] =
    ["ssl-mode", "sslmode", "ssl-ca", "sslca", "ssl-cert", "sslcert", "ssl-key", "sslkey", "socket"];

// === impl DatabaseOptions ===

impl DatabaseOptions {
    /// Which database the URL means; reads the password's file.
    ///
    /// # Errors
    /// The URL means none, or the password cannot be read.
    pub fn kind(&self) -> Result<DatabaseKind, DatabaseMistake> {
        let url = self.url.expose();
        match url.split_once(':') {
            Some(("mysql" | "mariadb", _)) => self.mysql(url),
            Some(("sqlite", rest)) => self.sqlite(rest),
            _ => Err(in_url("it must begin with sqlite: or mysql://")),
        }
    }

    /// The limits that the other options set.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { connections: self.connections, deadline: self.deadline, unique_emails: self.unique_emails }
    }

    fn mysql(&self, text: &str) -> Result<DatabaseKind, DatabaseMistake> {
        let url =
            Url::parse(text).map_err(|error| in_url(format!("{error}; write mysql://USER@HOST:PORT/DATABASE")))?;
        if url.path().trim_matches('/').is_empty() {
            return Err(in_url("it names no database; write mysql://USER@HOST:PORT/DATABASE"));
        }
        if let Some((name, _)) = url.query_pairs().find(|(name, _)| !MYSQL_PARAMETERS.contains(&&**name)) {
            return Err(in_url(format!(
                "the parameter {name:?} is unknown; there are ssl-mode, ssl-ca, ssl-cert, ssl-key and socket"
            )));
        }
        let mut options: MySqlConnectOptions =
            text.parse().map_err(|_| in_url("a parameter has a wrong value, or is not percent-encoded"))?;
        if let Some(file) = &self.password_file {
            if url.password().is_some() {
                return Err(in_password_file("there is a password in the URL already; leave one of them out"));
            }
            let password = Secret::from_file(file)
                .map_err(|error| in_password_file(format!("cannot read {}: {error}", file.display())))?;
            options = options.password(password.expose());
        }
        Ok(DatabaseKind::Mysql(Box::new(options)))
    }

    fn sqlite(&self, rest: &str) -> Result<DatabaseKind, DatabaseMistake> {
        if self.password_file.is_some() {
            return Err(in_password_file("a SQLite file has no password; leave it out"));
        }
        let file = rest.strip_prefix("//").unwrap_or(rest);
        if file.contains('?') {
            return Err(in_url("sqlite takes no parameters; write sqlite:FILE, with a '?' in its name as %3F"));
        }
        let file = percent_encoding::percent_decode_str(file)
            .decode_utf8()
            .map_err(|_| in_url("the file's name is not UTF-8"))?;
        match &*file {
            "" => Err(in_url("it names no file; write sqlite:FILE")),
            ":memory:" => Err(in_url("users in memory would be lost at the end; write sqlite:FILE")),
            file => Ok(DatabaseKind::Sqlite(file.into())),
        }
    }
}

fn in_url(reason: impl Into<String>) -> DatabaseMistake {
    DatabaseMistake { option: URL_OPTION, reason: reason.into() }
}

fn in_password_file(reason: impl Into<String>) -> DatabaseMistake {
    DatabaseMistake { option: PASSWORD_OPTION, reason: reason.into() }
}

// === impl DatabaseKind ===

impl std::fmt::Display for DatabaseKind {
    /// For a log: without user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mysql(options) => write!(
                f,
                "mysql://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

impl std::fmt::Debug for DatabaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options' own Debug shows the password.
        write!(f, "{self}")
    }
}

// === impl Limits ===

impl Limits {
    /// For one step (connecting, one check): half of the deadline, so that a second one has its time too.
    pub(crate) fn attempt(&self) -> Duration {
        self.deadline / 2
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        database: DatabaseOptions,
    }

    fn options(args: &[&str]) -> DatabaseOptions {
        Line::try_parse_from([&["userlist"], args].concat()).unwrap().database
    }

    fn kind(url: &str) -> Result<DatabaseKind, DatabaseMistake> {
        options(&["--database-url", url]).kind()
    }

    #[test]
    fn the_default_is_a_file_that_make_run_can_create() {
        assert_eq!(options(&[]).kind().unwrap().to_string(), "sqlite:./data/userlist.db");
        assert_eq!(
            options(&[]).limits(),
            Limits { connections: 10, deadline: Duration::from_secs(2), unique_emails: false }
        );
    }

    #[test]
    fn both_kinds_are_told_apart_by_their_scheme() {
        for (url, shown) in [
            ("mysql://muster:secret@db:3307/userlist", "mysql://db:3307/userlist"),
            ("mariadb://muster@db/userlist?ssl-mode=required", "mysql://db:3306/userlist"),
            ("sqlite:users.db", "sqlite:users.db"),
            ("sqlite:///var/lib/users.db", "sqlite:/var/lib/users.db"),
            ("sqlite:a%3Fb.db", "sqlite:a?b.db"),
        ] {
            assert_eq!(kind(url).unwrap().to_string(), shown, "{url}");
        }
    }

    #[test]
    fn a_mistake_in_the_url_says_what_to_write_and_shows_no_password() {
        for (url, hint) in [
            ("postgres://u:hunter2@h/d", "begin with sqlite: or mysql://"),
            ("users.db", "begin with"),
            ("mysql://u:hunter2@h", "names no database"),
            ("mysql://u:hunter2@h/", "names no database"),
            ("mysql://u:hunter2@h:port/d", "invalid port"),
            ("mysql://u:hunter2@h/d?ssl-mod=required", "\"ssl-mod\" is unknown"),
            ("mysql://u:hunter2@h/d?charset=latin1", "\"charset\" is unknown"),
            ("mysql://u:hunter2@h/d?ssl-mode=perhaps", "wrong value"),
            ("sqlite:", "names no file"),
            ("sqlite::memory:", "lost"),
            ("sqlite:a.db?mode=ro", "no parameters"),
        ] {
            let mistake = kind(url).unwrap_err().to_string();
            assert!(mistake.starts_with(URL_OPTION) && mistake.contains(hint), "{url}: {mistake}");
            assert!(!mistake.contains("hunter2"), "{mistake}");
        }
    }

    #[test]
    fn the_password_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "hunter2\n").unwrap();
        let path = file.path().to_str().unwrap();
        let with = |url| options(&["--database-url", url, "--database-password-file", path]).kind();
        let DatabaseKind::Mysql(options) = with("mysql://u@h/d").unwrap() else { panic!("not mysql") };
        assert_eq!(url_of(&options).password(), Some("hunter2"));
        assert!(with("mysql://u:p@h/d").unwrap_err().to_string().contains("already"));
        assert!(with("sqlite:a.db").unwrap_err().to_string().contains("no password"));
        std::fs::remove_file(path).unwrap();
        assert!(with("mysql://u@h/d").unwrap_err().to_string().contains("cannot read"));
    }

    fn url_of(options: &MySqlConnectOptions) -> Url {
        sqlx::ConnectOptions::to_url_lossy(options)
    }

    #[test]
    fn no_debug_line_shows_the_password() {
        let options = options(&["--database-url", "mysql://u:hunter2@h/d"]);
        let shown = format!("{options:?} {:?}", options.kind());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
