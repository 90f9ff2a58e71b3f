//! The same statements in a loop, without a service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use service_kit::service::Failure;
use sqlx::{Connection as _, MySqlConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{runtime::Runtime, sync::Mutex, task::JoinSet};

use super::{Answered, Case, traffic::name};

const GET: &str =
    "SELECT id, name, email, status, tags, attributes, version, created_at, updated_at FROM users WHERE name = ?";
const PUT: &str = "UPDATE users SET email = ?, version = version + 1 WHERE name = ?";

/// Connections of its own.
pub(crate) struct Raw {
    runtime: Runtime,
    connections: Vec<Arc<Mutex<Connection>>>,
}

enum Connection {
    Mysql(MySqlConnection),
    Sqlite(SqliteConnection),
}

// === impl Raw ===

impl Raw {
    pub(crate) fn new(url: &str, clients: usize) -> Result<Self, Failure> {
        let runtime = Runtime::new()?;
        let connect = || runtime.block_on(Connection::open(url)).map(|connection| Arc::new(Mutex::new(connection)));
        let connections = (0..clients).map(|_| connect()).collect::<Result<_, _>>()?;
        Ok(Self { runtime, connections })
    }

    /// SQLite takes one writer at a time, so it has one.
    pub(crate) fn run(&self, case: Case, duration: Duration) -> Result<Answered, Failure> {
        self.runtime.block_on(async {
            let next = Arc::new(AtomicU64::new(0));
            let until = Instant::now() + duration;
            let mut tasks = JoinSet::new();
            for connection in &self.connections {
                let is_only_writer = case == Case::Put && matches!(*connection.lock().await, Connection::Sqlite(_));
                tasks.spawn(repeat(Arc::clone(connection), case, Arc::clone(&next), until));
                if is_only_writer {
                    break;
                }
            }
            let mut all = Answered::default();
            while let Some(done) = tasks.join_next().await {
                all.latencies_us.extend(done??);
            }
            Ok(all)
        })
    }
}

async fn repeat(
    connection: Arc<Mutex<Connection>>,
    case: Case,
    next: Arc<AtomicU64>,
    until: Instant,
) -> Result<Vec<u64>, Failure> {
    let mut connection = connection.lock().await;
    let mut latencies = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(latencies);
        }
        connection.send(case, next.fetch_add(1, Relaxed)).await?;
        latencies.push(u64::try_from(sent.elapsed().as_micros())?);
    }
}

// === impl Connection ===

impl Connection {
    async fn open(url: &str) -> Result<Self, Failure> {
        let Some(file) = url.strip_prefix("sqlite:") else {
            return Ok(Self::Mysql(MySqlConnection::connect(url).await?));
        };
        // The database is in WAL mode already; flush every commit, as the service does.
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(10));
        let options = options.synchronous(sqlx::sqlite::SqliteSynchronous::Full);
        Ok(Self::Sqlite(SqliteConnection::connect_with(&options).await?))
    }

    async fn send(&mut self, case: Case, n: u64) -> Result<(), Failure> {
        let email = format!("u{n}@example.com");
        match (self, case) {
            (Self::Mysql(connection), Case::Get) => {
                sqlx::query(GET).bind(name(n)).fetch_one(connection).await?;
            }
            (Self::Mysql(connection), Case::Put) => {
                sqlx::query(PUT).bind(email).bind(name(n)).execute(connection).await?;
            }
            (Self::Sqlite(connection), Case::Get) => {
                sqlx::query(GET).bind(name(n)).fetch_one(connection).await?;
            }
            (Self::Sqlite(connection), Case::Put) => {
                sqlx::query(PUT).bind(email).bind(name(n)).execute(connection).await?;
            }
        }
        Ok(())
    }
}
