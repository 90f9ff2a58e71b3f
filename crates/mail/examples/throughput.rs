//! How many messages a second mail takes in and delivers, and what one costs, beside loops that do only one thing.
//!
//! ```console
//! $ cargo build --release -p mail --bins --examples && target/release/examples/throughput target/release/mail 2000 5
//! ```
//!
//! The arguments are the program, the messages of a round, and the rounds. The ways take turns; the table shows
//! medians. Everything is on loopback and in temporary folders under the working directory, so that the disk is a real
//! one.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lettre::{
    address::Envelope,
    transport::smtp::{client::AsyncSmtpConnection, extension::ClientId},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, any::AnyConnectOptions};
use tempfile::TempDir;
use testkit::{database::Database, process::Process, smtp_sink::SmtpSink, wait::wait_for};
use tokio::{net::TcpStream, task::JoinSet};

/// Clients that each wait for an answer before they send the next request.
const CLIENTS: usize = 16;
/// Connections of mail to the SMTP server, and of the loop beside it.
const CONNECTIONS: usize = 10;
const LIMIT: Duration = Duration::from_secs(120);
/// About as long as a message of mail is.
const TEXT: &str = "It is on its way. ";
const REPEATED: usize = 30;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One way to handle messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    MailSqlite,
    MailMysql,
    /// lettre alone over so many kept connections.
    Smtp(usize),
    /// A row and a commit for each message.
    Sqlite,
    /// As many bytes and a flush for each message.
    Flush,
}

const WAYS: [Way; 6] = [Way::MailSqlite, Way::MailMysql, Way::Smtp(1), Way::Smtp(CONNECTIONS), Way::Sqlite, Way::Flush];

/// What a round came to; what a way does not do is not a number.
#[derive(Debug, Clone, Copy)]
struct Round {
    accepted: f64,
    delivered: f64,
    /// Processor time of the process for each message.
    cpu_us: f64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, place, messages] = args.as_slice()
        && let Some(way) = mode.strip_prefix("--alone=")
    {
        return alone(way, place, messages.parse()?).await;
    }
    let program = std::path::absolute(args.first().map_or("target/release/mail", String::as_str))?;
    let messages = args.get(1).map_or(Ok(2000), |text| text.parse())?;
    let rounds = args.get(2).map_or(Ok(5), |text| text.parse())?;
    let database = Database::start().await;
    let mut results: Vec<Vec<Round>> = WAYS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (way, results) in WAYS.iter().zip(&mut results) {
            let result = run(*way, &program, &database, messages, round).await?;
            results.push(result);
        }
    }
    println!("| way | accepted/s | delivered/s | CPU a message, µs |");
    println!("|---|---|---|---|");
    for (way, results) in WAYS.iter().zip(&results) {
        let shown = [|round: &Round| round.accepted, |round: &Round| round.delivered, |round: &Round| round.cpu_us];
        let [accepted, delivered, cpu] = shown.map(|part| median(results.iter().map(part)));
        println!("| {} | {accepted} | {delivered} | {cpu} |", name(*way));
    }
    Ok(())
}

fn name(way: Way) -> String {
    match way {
        Way::MailSqlite => "mail, outbox in SQLite".to_owned(),
        Way::MailMysql => "mail, outbox in MySQL".to_owned(),
        Way::Smtp(connections) => format!("lettre in a loop, {connections} kept connection(s)"),
        Way::Sqlite => "SQLite in a loop, a commit each".to_owned(),
        Way::Flush => "write and flush in a loop".to_owned(),
    }
}

fn median(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map_or_else(String::new, |value| format!("{value:.0}"))
}

async fn run(way: Way, program: &Path, database: &Database, messages: usize, round: usize) -> Result<Round, Failure> {
    let dir = TempDir::new_in(".")?;
    let sink = SmtpSink::start().await;
    match way {
        Way::MailSqlite => {
            let outbox = format!("sqlite:{}", std::path::absolute(dir.path().join("outbox.db"))?.display());
            through_mail(program, &dir, &sink, &outbox, messages).await
        }
        Way::MailMysql => through_mail(program, &dir, &sink, &database.create(&format!("mail{round}")), messages).await,
        Way::Smtp(connections) => {
            let round = in_a_process(&format!("smtp{connections}"), &sink.address().to_string(), messages, &dir)?;
            Ok(Round { accepted: f64::NAN, ..round })
        }
        Way::Sqlite | Way::Flush => {
            let kind = if way == Way::Sqlite { "sqlite" } else { "flush" };
            let file = dir.path().join("file").display().to_string();
            let round = in_a_process(kind, &file, messages, &dir)?;
            Ok(Round { delivered: f64::NAN, ..round })
        }
    }
}

// === mail ===

async fn through_mail(
    program: &Path,
    dir: &TempDir,
    sink: &SmtpSink,
    outbox: &str,
    messages: usize,
) -> Result<Round, Failure> {
    let (process, url) = start(program, dir, sink, outbox).await?;
    let client = reqwest::Client::new();
    // The first message creates the tables.
    submit(&client, &url).await?;
    arrived(sink, 1).await;
    let before = cpu(process.id())?;
    let started = Instant::now();
    let left = Arc::new(AtomicUsize::new(messages));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = client.clone();
        let url = url.clone();
        let left = Arc::clone(&left);
        clients.spawn(async move {
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                submit(&client, &url).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let accepted = started.elapsed();
    arrived(sink, messages + 1).await;
    let delivered = started.elapsed();
    Ok(round(messages, accepted, delivered, cpu(process.id())? - before))
}

async fn start(program: &Path, dir: &TempDir, sink: &SmtpSink, outbox: &str) -> Result<(Process, String), Failure> {
    let mut command = Command::new(program);
    command.env_clear().env("MAIL_LISTEN", "127.0.0.1:0").env("LOG_FORMAT", "json").env("RUST_LOG", "info");
    command.env("REGISTRY_URLS", "http://127.0.0.1:1").env("MAIL_SMTP_URL", sink.url()).env("MAIL_OUTBOX_URL", outbox);
    command.env("MAIL_SENDS_MAX", CONNECTIONS.to_string()).current_dir(dir.path());
    command.env("MAIL_OPEN", "true");
    let process = Process::start(&mut command, &dir.path().join("output"))?;
    let listening = || async {
        let text = process.output();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.into_iter().find(|line| line["message"] == "listening")?;
        line["address"].as_str().map(|address| format!("http://{address}/v1/messages"))
    };
    let url = wait_for("listening", LIMIT, listening).await;
    Ok((process, url))
}

async fn submit(client: &reqwest::Client, url: &str) -> Result<(), Failure> {
    let body = json!({ "to": "dong@example.com", "subject": "Order 17", "text": TEXT.repeat(REPEATED) });
    let response = client.post(url).json(&body).send().await?;
    if response.status().as_u16() == 202 { Ok(()) } else { Err(response.text().await?.into()) }
}

async fn arrived(sink: &SmtpSink, messages: usize) {
    wait_for("all messages", LIMIT, || async { (sink.messages_taken() >= messages).then_some(()) }).await;
}

// === loops in a process of their own, so that their processor time is theirs ===

fn in_a_process(kind: &str, place: &str, messages: usize, dir: &TempDir) -> Result<Round, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([&format!("--alone={kind}"), place, &messages.to_string()]);
    let mut process = Process::start(&mut command, &dir.path().join("output"))?;
    let ended = tokio::task::block_in_place(|| process.wait(LIMIT));
    let output: Value = serde_json::from_str(&process.output())?;
    let number = |name: &str| output[name].as_f64().ok_or("the loop tells what it did");
    if !ended.is_some_and(|status| status.success()) {
        return Err(process.output().into());
    }
    let took = Duration::from_secs_f64(number("seconds")?);
    Ok(round(messages, took, took, Duration::from_secs_f64(number("cpu_seconds")?)))
}

async fn alone(kind: &str, place: &str, messages: usize) -> Result<(), Failure> {
    let mail = mail();
    let before = cpu(std::process::id())?;
    let started = Instant::now();
    match kind {
        "sqlite" => rows(Path::new(place), &mail, messages).await?,
        "flush" => {
            let mut file = std::fs::File::create(place)?;
            for _ in 0..messages {
                file.write_all(&mail)?;
                file.sync_data()?;
            }
        }
        smtp => {
            let connections: usize = smtp.trim_start_matches("smtp").parse()?;
            let mut loops = JoinSet::new();
            for _ in 0..connections {
                loops.spawn(smtp_loop(place.to_owned(), mail.clone(), messages / connections));
            }
            while let Some(ended) = loops.join_next().await {
                ended??;
            }
        }
    }
    let took = started.elapsed().as_secs_f64();
    println!("{}", json!({ "seconds": took, "cpu_seconds": (cpu(std::process::id())? - before).as_secs_f64() }));
    Ok(())
}

fn mail() -> Vec<u8> {
    let headers = "From: Muster <muster@localhost>\r\nTo: dong@example.com\r\nSubject: Order 17\r\n\
                   Message-ID: <019aa6f2c0e87b1293d5a4c8f01e6b37@localhost>\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n\
                   MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                   Content-Transfer-Encoding: quoted-printable\r\n\r\n";
    let text = TEXT.repeat(REPEATED);
    let lines: Vec<&str> = text.as_bytes().chunks(72).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("{headers}{}", lines.join("=\r\n")).into_bytes()
}

async fn smtp_loop(address: String, mail: Vec<u8>, messages: usize) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &ClientId::default()).await?;
    let envelope = Envelope::new(Some("muster@localhost".parse()?), vec!["dong@example.com".parse()?])?;
    for _ in 0..messages {
        connection.send(&envelope, &mail).await?;
    }
    Ok(())
}

/// With the settings that mail uses.
async fn rows(file: &Path, mail: &[u8], messages: usize) -> Result<(), Failure> {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let mut connection = AnyConnectOptions::from_url(&url.parse()?)?.connect().await?;
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                    CREATE TABLE messages (id INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT";
    sqlx::raw_sql(settings).execute(&mut connection).await?;
    for _ in 0..messages {
        sqlx::query("INSERT INTO messages (content) VALUES (?)").bind(mail).execute(&mut connection).await?;
    }
    Ok(())
}

fn round(messages: usize, accepted: Duration, delivered: Duration, cpu: Duration) -> Round {
    let count = f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
    Round {
        accepted: count / accepted.as_secs_f64(),
        delivered: count / delivered.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
    }
}

/// Processor time so far, of all threads: fields 14 and 15 of proc(5), in hundredths of a second.
fn cpu(pid: u32) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat")))?;
    let after_name = text.rsplit_once(')').ok_or("a process has a name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = fields.get(11).ok_or("no utime")?.parse::<u64>()? + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
