//! How much memory mail takes while large messages come in and go out at the same time.
//!
//! ```console
//! $ cargo build --release -p mail --bins --examples && target/release/examples/large target/release/mail 10 20
//! ```
//!
//! The arguments are the program, the messages at the same time, and their attachments' size in MB. Everything is on
//! loopback and in a temporary folder under the working directory.
#![expect(clippy::print_stdout, reason = "the line is what it is for")]

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{process::Process, smtp_sink::SmtpSink, wait::wait_for};
use tokio::{task::JoinSet, time::sleep};

const LIMIT: Duration = Duration::from_secs(120);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let program = std::path::absolute(args.first().map_or("target/release/mail", String::as_str))?;
    let messages: usize = args.get(1).map_or(Ok(10), |text| text.parse())?;
    let megabytes: usize = args.get(2).map_or(Ok(20), |text| text.parse())?;
    let dir = TempDir::new_in(".")?;
    let sink = SmtpSink::start().await;
    let mut command = Command::new(program);
    command.env_clear().env("MAIL_LISTEN", "127.0.0.1:0").env("LOG_FORMAT", "json").env("RUST_LOG", "info");
    command.env("REGISTRY_URLS", "http://127.0.0.1:1").env("MAIL_SMTP_URL", sink.url());
    command.env("MAIL_OPEN", "true");
    command.env("MAIL_MESSAGE_MAX_BYTES", "104857600").current_dir(dir.path());
    let process = Process::start(&mut command, &dir.path().join("output"))?;
    let url = wait_for("listening", LIMIT, || async { listening(&process.output()) }).await;
    let content = "A".repeat(megabytes * 1_000_000 / 3 * 4);
    let body = json!({ "to": "a@b.c", "text": "x", "attachments": [{ "filename": "a", "content": content }] });
    let body = axum::body::Bytes::from(body.to_string());
    let rest = peak(process.id())?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..messages {
        clients.spawn(submit(url.clone(), body.clone()));
    }
    let mut rejected = 0;
    while let Some(ended) = clients.join_next().await {
        rejected += ended??;
    }
    let accepted = peak(process.id())?;
    wait_for("all messages", LIMIT, || async { (sink.messages_taken() >= messages).then_some(()) }).await;
    let delivered = peak(process.id())?;
    let took = started.elapsed().as_secs_f64();
    println!(
        "{messages} messages of {megabytes} MB at once: at rest {rest} MB, until all were accepted {accepted} MB, until \
         all were delivered {delivered} MB; rejected {rejected} times, {took:.1} s"
    );
    Ok(())
}

/// Until it is accepted; how many times it was turned away before.
async fn submit(url: String, body: axum::body::Bytes) -> Result<usize, Failure> {
    let client = reqwest::Client::new();
    let started = Instant::now();
    let mut rejected = 0;
    loop {
        // A client that is rejected while it still sends may see the connection end instead of the answer.
        match client.post(&url).body(body.clone()).send().await {
            Ok(response) if response.status().as_u16() == 202 => return Ok(rejected),
            // Too many at the same time, or too slow because of the others.
            Ok(response) if matches!(response.status().as_u16(), 503 | 408) => {}
            Ok(response) => return Err(response.text().await?.into()),
            Err(_) => {}
        }
        rejected += 1;
        if started.elapsed() > LIMIT {
            return Err("it was not taken in time".into());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn listening(output: &str) -> Option<String> {
    let mut lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.find(|line| line["message"] == "listening")?;
    line["address"].as_str().map(|address| format!("http://{address}/v1/messages"))
}

/// The most memory that the process has had so far, in MB: `VmHWM` in proc(5).
fn peak(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("a process has a peak")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1000)
}
