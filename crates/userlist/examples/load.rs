//! Measures get and put over HTTP, beside the same statements in a loop without a service.
//!
//! ```text
//! cargo run --release -p userlist --example load -- [--seconds 5] [--clients 16] [DATABASE_URL…]
//! ```
//!
//! Without a URL: a SQLite file in a temporary folder. For MySQL give the URL of an empty database. One line a case:
//!
//! - `raw`: as many connections as clients, each sending one prepared statement after the other, as a program would that
//!   has the database to itself;
//! - `service`: the service in this process on a loopback socket, and as many HTTP connections.
//!
//! CPU is that of this process: for `service` the HTTP client's part is in it. What a database server uses is not.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use futures::future::BoxFuture;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike as _},
};
use service_kit::service::Failure;
use sqlx::{Connection as _, MySqlConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use userlist::config::Config;

/// Users that are read and changed.
const USERS: u64 = 5_000;

const GET: &str =
    "SELECT id, name, email, status, tags, attributes, version, created_at, updated_at FROM users WHERE name = ?";
const PUT: &str = "UPDATE users SET email = ?, version = version + 1 WHERE name = ?";

#[derive(Debug, Clone, Parser)]
struct Options {
    /// How long each case takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Requests at the same time.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Databases; each must be empty.
    urls: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Case {
    Get,
    Put,
}

/// What sends one request after the other.
trait Client: Send {
    fn send(&mut self, case: Case, n: u64) -> BoxFuture<'_, Result<(), Failure>>;
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut options = Options::parse();
    let folder = tempfile::tempdir()?;
    if options.urls.is_empty() {
        options.urls.push(format!("sqlite:{}/users.db", folder.path().display()));
    }
    println!("{:8} {:8} {:4} {:>10} {:>11} {:>9}", "database", "how", "what", "requests/s", "CPU µs each", "worst ms");
    for url in &options.urls {
        measure_database(url, &options).await?;
    }
    Ok(())
}

async fn measure_database(url: &str, options: &Options) -> Result<(), Failure> {
    let config = Config::try_parse_from([
        "userlist",
        "--database-url",
        url,
        "--registry",
        "http://127.0.0.1:1",
        "--let-go",
        "0s",
    ])?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(userlist::run_on(listener, config, shutdown.clone()));
    let http = reqwest::Client::new();
    fill(&http, &address).await?;
    let kind = url.split(':').next().unwrap_or_default();
    for case in [Case::Get, Case::Put] {
        let mut raw: Vec<Box<dyn Client>> = Vec::new();
        let mut through: Vec<Box<dyn Client>> = Vec::new();
        for _ in 0..options.clients {
            raw.push(connect(url).await?);
            through.push(Box::new(Http { http: http.clone(), address: address.clone() }));
        }
        measure(kind, "raw", case, raw, options).await?;
        measure(kind, "service", case, through, options).await?;
    }
    shutdown.cancel();
    running.await??;
    Ok(())
}

/// Imports the users as soon as the service takes them.
async fn fill(http: &reqwest::Client, address: &str) -> Result<(), Failure> {
    let lines: String = (0..USERS).map(|n| format!("user-{n},u{n}@example.com\n")).collect();
    for _ in 0..100 {
        let import = http.post(format!("{address}/v1/users/import?format=csv")).body(format!("name,email\n{lines}"));
        if import.send().await?.status().is_success() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the service does not become ready".into())
}

async fn connect(url: &str) -> Result<Box<dyn Client>, Failure> {
    Ok(match url.strip_prefix("sqlite:") {
        None => Box::new(Mysql(MySqlConnection::connect(url).await?)),
        Some(file) => {
            // The database is in WAL mode already; flush every commit, as the service does.
            let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(10));
            let options = options.synchronous(sqlx::sqlite::SqliteSynchronous::Full);
            Box::new(Sqlite(SqliteConnection::connect_with(&options).await?))
        }
    })
}

async fn measure(
    kind: &str,
    how: &str,
    case: Case,
    clients: Vec<Box<dyn Client>>,
    options: &Options,
) -> Result<(), Failure> {
    let (count, worst) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (started, cpu_before) = (Instant::now(), cpu()?);
    let until = started + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (count, worst) = (Arc::clone(&count), Arc::clone(&worst));
        tasks.spawn(async move {
            while Instant::now() < until {
                let sent = Instant::now();
                client.send(case, count.fetch_add(1, Relaxed)).await?;
                worst.fetch_max(u64::try_from(sent.elapsed().as_micros())?, Relaxed);
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let (requests, took, cpu) = (count.load(Relaxed) as f64, started.elapsed().as_secs_f64(), cpu()? - cpu_before);
    let what = format!("{case:?}").to_lowercase();
    let (cpu_each, worst_ms) = (cpu.as_secs_f64() * 1e6 / requests, worst.load(Relaxed) as f64 / 1e3);
    println!("{kind:8} {how:8} {what:4} {:10.0} {cpu_each:11.0} {worst_ms:9.1}", requests / took);
    Ok(())
}

fn cpu() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = |time: TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default());
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

struct Mysql(MySqlConnection);
struct Sqlite(SqliteConnection);
struct Http {
    http: reqwest::Client,
    address: String,
}

fn name(n: u64) -> String {
    // Neighbours in time are not neighbours in the table.
    format!("user-{}", n.wrapping_mul(7919) % USERS)
}

impl Client for Mysql {
    fn send(&mut self, case: Case, n: u64) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            match case {
                Case::Get => {
                    sqlx::query(GET).bind(name(n)).fetch_one(&mut self.0).await?;
                }
                Case::Put => {
                    sqlx::query(PUT).bind(format!("u{n}@example.com")).bind(name(n)).execute(&mut self.0).await?;
                }
            }
            Ok(())
        })
    }
}

impl Client for Sqlite {
    fn send(&mut self, case: Case, n: u64) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            match case {
                Case::Get => {
                    sqlx::query(GET).bind(name(n)).fetch_one(&mut self.0).await?;
                }
                Case::Put => {
                    sqlx::query(PUT).bind(format!("u{n}@example.com")).bind(name(n)).execute(&mut self.0).await?;
                }
            }
            Ok(())
        })
    }
}

impl Client for Http {
    fn send(&mut self, case: Case, n: u64) -> BoxFuture<'_, Result<(), Failure>> {
        let url = format!("{}/v1/users/{}", self.address, name(n));
        Box::pin(async move {
            let request = match case {
                Case::Get => self.http.get(url),
                Case::Put => self.http.put(url).body(format!(r#"{{"email":"u{n}@example.com"}}"#)),
            };
            request.send().await?.error_for_status()?.bytes().await?;
            Ok(())
        })
    }
}
