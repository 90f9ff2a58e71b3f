//! MySQL and MariaDB.
//!
//! What is particular about them:
//!
//! - **Connections die** while they are idle: a restart, `wait_timeout`, a firewall. One that was idle for more than a
//!   second is asked first (`kept`, and here for the pool); one that breaks during a statement is thrown away.
//! - **A frozen server** keeps connections open and says nothing. Everything here has a deadline, and a connection on
//!   which one passed is closed at once, not given back: the pool would wait for it to become clean.
//! - **A statement whose client has gone** goes on to its end all the same. So the server is set to end those that take
//!   longer than a request may wait for them.
//! - **Locks for migrations.** sqlx's `GET_LOCK(…, -1)` means "for ever" to MySQL and nothing to MariaDB (it answers
//!   NULL), and sqlx does not look at the answer. So the lock is taken here.

use std::{sync::Arc, time::Duration};

use service_kit::time::UnixMillis;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, FromRow as _, MySql, MySqlConnection, Row as _,
    migrate::Migrator,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlRow},
};
use tokio::sync::Mutex;

use super::{
    kept::{Kept, Lease},
    migrations, upgrade,
};
use crate::store::{
    driver::{
        self, Access, Answer, Connection, Database, DriverError, Executed, Row, Session, Statement, Unique, Value,
        within,
    },
    options::Limits,
    sql::CHECK,
};

/// A table that is copied to gain a column takes its time.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(600);
/// A connection that was idle for longer is asked whether it is alive before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

// What a server may have configured otherwise, and what the promises of this service rest on: a statement is committed
// when it is answered, waits for a lock no longer than its request does, stores text whole or not at all, and locks its
// own row and not the gap beside it, in which others are about to be inserted.
const SESSION: &str = "SET SESSION autocommit = 1, innodb_lock_wait_timeout = 1, \
                       sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'); \
                       SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
// Locks are known to the whole server, by names of at most 64 characters, and end with their connection. Two databases
// whose long names begin alike share one, which only makes one of them wait.
const LOCK: &str = "SELECT GET_LOCK(LEFT(CONCAT('userlist:', DATABASE()), 64), 0)";
const UNLOCK: &str = "SELECT RELEASE_LOCK(LEFT(CONCAT('userlist:', DATABASE()), 64))";

/// A server, and how to log in.
#[derive(Clone)]
pub(crate) struct Mysql {
    options: MySqlConnectOptions,
    limits: Limits,
}

/// Connections to a server that was there.
struct MysqlSession {
    server: Mysql,
    kept: Kept<MySql>,
    /// For [`Session::check`] alone; none after it failed.
    checks: Mutex<Option<MySqlConnection>>,
}

type Prepared = sqlx::query::Query<'static, MySql, MySqlArguments>;

/// Closes its connection when it is dropped, unless it was settled: handing it back would first read an answer that is
/// not needed any more.
struct Leased(Lease<MySql>);

// === impl Mysql ===

impl Mysql {
    pub(crate) fn new(options: MySqlConnectOptions, limits: Limits) -> Self {
        // A statement in a log is a debugging aid; here it would be one line per request.
        Self { options: options.disable_statement_logging(), limits }
    }

    async fn connect(&self) -> Result<MySqlConnection, DriverError> {
        let connecting = async {
            let mut connection = self.options.connect().await.map_err(|error| self.not_connected(&error))?;
            sqlx::raw_sql(SESSION).execute(&mut connection).await.map_err(|error| self.not_connected(&error))?;
            Ok(connection)
        };
        match within(self.limits.attempt(), connecting).await {
            Err(DriverError::Lost(reason)) => Err(DriverError::NotReached(format!("cannot connect: {reason}"))),
            result => result,
        }
    }

    fn not_connected(&self, error: &sqlx::Error) -> DriverError {
        let unknown = match error {
            sqlx::Error::Io(error) => service_kit::unknown_name(error),
            _ => None,
        };
        match unknown {
            Some(why) => DriverError::NotReached(format!(
                "cannot connect: the host {:?} is not known ({why}); check it in --database-url (USERLIST_DATABASE_URL), or \
                 the DNS of this machine",
                self.options.get_host()
            )),
            None => driver::of_connect(error, by_number),
        }
    }

    fn kept(&self) -> Kept<MySql> {
        Kept::new(self.pool(), self.limits.attempt())
    }

    fn pool(&self) -> MySqlPool {
        let ping_deadline = self.limits.attempt() / 2;
        let session: Arc<str> = format!("{SESSION}; {}", self.statement_limit()).into();
        MySqlPoolOptions::new()
            .max_connections(self.limits.connections)
            .acquire_timeout(self.limits.attempt())
            // Waiting is seen in the metrics; a line per request would bury the log.
            .acquire_slow_threshold(Duration::MAX)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                Box::pin(async move {
                    if meta.idle_for <= TRUSTED_IDLE {
                        return Ok(true);
                    }
                    let alive = tokio::time::timeout(ping_deadline, connection.ping()).await;
                    Ok(matches!(alive, Ok(Ok(()))))
                })
            })
            .after_connect(move |connection, _| {
                let session = sqlx::raw_sql(AssertSqlSafe(session.to_string()));
                Box::pin(async move { session.execute(connection).await.map(|_| ()) })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// MySQL and MariaDB have two variables for it, and each reads over the comment that is for the other: "Comment
    /// Syntax" in both manuals. MySQL's is about SELECT alone. Migrations have a connection without it.
    fn statement_limit(&self) -> String {
        let seconds = self.limits.deadline.as_secs_f64();
        let millis = self.limits.deadline.as_millis();
        format!(
            "SET SESSION autocommit = 1 /*M! , max_statement_time = {:.3} */ /*!50708 , max_execution_time = {} */",
            seconds.max(0.001),
            millis.max(1)
        )
    }
}

impl Database for Mysql {
    fn open(&self) -> Answer<'_, Arc<dyn Session>> {
        Box::pin(async move {
            let mut connection = self.connect().await?;
            // Dropping the connection on a error releases the lock.
            within(self.limits.attempt(), lock_migrations(&mut connection)).await?;
            within(MIGRATION_DEADLINE, migrate(&mut connection)).await?;
            let session = MysqlSession { server: self.clone(), kept: self.kept(), checks: Mutex::new(None) };
            let mut leased = session.connection(Access::Write).await?;
            within(MIGRATION_DEADLINE, upgrade::fill_in(&mut *leased, UnixMillis::now())).await?;
            leased.settle().await?;
            within(self.limits.attempt(), unlock_migrations(&mut connection)).await?;
            within(self.limits.attempt(), check(&mut connection)).await?;
            *session.checks.lock().await = Some(connection);
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }
}

impl std::fmt::Debug for Mysql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options' own Debug shows the password.
        f.debug_struct("Mysql").field("limits", &self.limits).finish_non_exhaustive()
    }
}

async fn migrate(connection: &mut MySqlConnection) -> Result<(), DriverError> {
    forget_half_done(connection).await?;
    // `run` is the same through a trait whose lifetimes the compiler cannot follow into a boxed future.
    let migrated = migrations().run_direct(None, &mut *connection, false).await;
    migrated.map_err(|error| driver::of_migration(&error, by_number))
}

fn migrations() -> Migrator {
    let mut migrations = migrations::mysql();
    migrations.set_locking(false);
    migrations
}

/// Does not wait for another instance that is at it: the next attempt to open comes soon.
async fn lock_migrations(connection: &mut MySqlConnection) -> Result<(), DriverError> {
    match sqlx::query_scalar::<_, Option<i64>>(LOCK).fetch_one(connection).await {
        Ok(Some(1)) => Ok(()),
        Ok(_) => Err(DriverError::Contended("another instance is bringing the tables up to date".to_owned())),
        Err(error) => Err(failed(&error)),
    }
}

async fn unlock_migrations(connection: &mut MySqlConnection) -> Result<(), DriverError> {
    sqlx::query(UNLOCK).execute(connection).await.map(|_| ()).map_err(|error| failed(&error))
}

/// Lets a migration that was begun and not finished run again, which all of ours can: see `migrations/mysql`.
async fn forget_half_done(connection: &mut MySqlConnection) -> Result<(), DriverError> {
    const NO_SUCH_TABLE: u16 = 1146;
    match sqlx::query("DELETE FROM _sqlx_migrations WHERE success = FALSE").execute(connection).await {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if mysql_number(&*error) == Some(NO_SUCH_TABLE) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

async fn check(connection: &mut MySqlConnection) -> Result<(), DriverError> {
    sqlx::query(CHECK).fetch_optional(connection).await.map(|_| ()).map_err(|error| failed(&error))
}

// === impl MysqlSession ===

impl Session for MysqlSession {
    fn connection(&self, _: Access) -> Answer<'_, Box<dyn Connection>> {
        Box::pin(async move {
            let lease = self.kept.lease().await.map_err(|error| self.server.not_connected(&error))?;
            Ok(Box::new(Leased(lease)) as Box<dyn Connection>)
        })
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut kept = self.checks.lock().await;
            let limit = self.server.limits.attempt();
            // Taken out, so that it is closed when its answer is not waited for.
            if let Some(mut connection) = kept.take()
                && within(limit / 2, check(&mut connection)).await.is_ok()
            {
                *kept = Some(connection);
                return Ok(());
            }
            // It may have been this connection alone.
            let mut connection = self.server.connect().await?;
            within(limit, check(&mut connection)).await?;
            *kept = Some(connection);
            Ok(())
        })
    }

    fn close(&self) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(async move {
            self.checks.lock().await.take();
            self.kept.close().await;
        })
    }
}

impl std::fmt::Debug for MysqlSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlSession").field("server", &self.server).finish_non_exhaustive()
    }
}

// === impl Leased ===

impl Leased {
    fn get(&mut self) -> &mut MySqlConnection {
        self.0.get()
    }

    /// Carries out what MySQL does not prepare.
    async fn command(&mut self, sql: &'static str) -> Result<(), DriverError> {
        sqlx::raw_sql(sql).execute(self.get()).await.map(|_| ()).map_err(|error| failed(&error))
    }
}

impl Connection for Leased {
    fn rows(&mut self, statement: Statement) -> Answer<'_, Vec<Row>> {
        Box::pin(async move {
            let rows = prepared(statement).try_map(|row| Row::from_row(&row)).fetch_all(self.get()).await;
            rows.map_err(|error| failed(&error))
        })
    }

    fn number(&mut self, statement: Statement) -> Answer<'_, i64> {
        Box::pin(async move {
            let row = prepared(statement).try_map(|row: MySqlRow| row.try_get(0)).fetch_one(self.get()).await;
            row.map_err(|error| failed(&error))
        })
    }

    fn execute(&mut self, statement: Statement) -> Answer<'_, Executed> {
        Box::pin(async move {
            match prepared(statement).execute(self.get()).await {
                // Found rows, not changed ones: sqlx asks for that.
                Ok(done) => Ok(Executed::Done { rows: done.rows_affected(), id: id(done.last_insert_id())? }),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    Ok(Executed::Taken(Unique::of_message(error.message())))
                }
                Err(error) => Err(failed(&error)),
            }
        })
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        Box::pin(self.command("BEGIN"))
    }

    fn commit(&mut self) -> Answer<'_, ()> {
        Box::pin(self.command("COMMIT"))
    }

    fn roll_back(&mut self) -> Answer<'_, ()> {
        Box::pin(self.command("ROLLBACK"))
    }

    /// Everything is committed already: see [`SESSION`].
    fn settle(self: Box<Self>) -> Answer<'static, ()> {
        self.0.keep();
        Box::pin(std::future::ready(Ok(())))
    }
}

fn prepared(statement: Statement) -> Prepared {
    let query = sqlx::query(AssertSqlSafe(statement.sql)).persistent(statement.is_frequent);
    statement.values.into_iter().fold(query, |query, value| match value {
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Null => query.bind(None::<String>),
    })
}

fn id(id: u64) -> Result<i64, DriverError> {
    i64::try_from(id).map_err(|_| DriverError::Unexpected("an id does not fit into its column".to_owned()))
}

fn failed(error: &sqlx::Error) -> DriverError {
    driver::of_statement(error, by_number)
}

fn mysql_number(error: &dyn sqlx::error::DatabaseError) -> Option<u16> {
    error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(sqlx::mysql::MySqlDatabaseError::number)
}

/// MySQL's "Server Error Message Reference" and MariaDB's "Error Codes"; they agree on these.
fn by_number(error: &dyn sqlx::error::DatabaseError) -> Option<DriverError> {
    let number = mysql_number(error)?;
    let say = |text: &str| format!("{text} (error {number})");
    Some(match number {
        1044 | 1045 | 1698 | 1862 | 3118 | 4151 => DriverError::NotReached(say("it refuses our user or password")),
        1049 => DriverError::NotReached(say("it has no database of that name")),
        1040 | 1203 | 1226 => DriverError::NotReached(say("it has too many connections")),
        1129 | 1130 => DriverError::NotReached(say("it refuses connections from this host")),
        // Going down, a connection ended by an administrator or for idleness, a network error that the server saw.
        1053 | 1077..=1080 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 => {
            DriverError::Lost(say("it ended the connection"))
        }
        1205 | 1213 | 3572 => DriverError::Contended(say("another statement held a lock")),
        1317 | 1969 | 3024 => DriverError::Contended(say("it ended the statement")),
        1290 | 1792 | 1836 => DriverError::ReadOnly(say("it is read-only")),
        1021 | 1114 => DriverError::Full(say("its disk is full")),
        // Replication by statements cannot follow READ COMMITTED.
        1665 => DriverError::Unusable(say("its binlog_format is STATEMENT and must be ROW or MIXED")),
        1142 | 1143 | 1227 => DriverError::Unusable(say("it refuses our user the right to do this")),
        1054 | 1146 | 1932 => DriverError::Unusable(say("its tables are missing or of another making")),
        _ => return None,
    })
}
