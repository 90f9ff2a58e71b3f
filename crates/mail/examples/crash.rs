//! Kills a mail instance again and again while messages are accepted, and counts what arrived.
//!
//! ```console
//! $ cargo build --release -p mail && cargo run --release -p mail --example crash -- target/release/mail 100 10000
//! ```
//!
//! The arguments are the program, the number of kills, and the number of accepted messages. It prints a table and fails
//! when a message was lost. Everything is on loopback and in a temporary folder.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{process::Process, smtp_sink::SmtpSink, wait::wait_for};
use tokio::task::JoinSet;

/// Requests under way at the same time.
const CLIENTS: usize = 8;
/// The longest that the rest may take after the last kill.
const PATIENCE: Duration = Duration::from_secs(300);

struct Crash {
    program: PathBuf,
    sink: SmtpSink,
    dir: TempDir,
    accepted: HashSet<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let program = args.next().unwrap_or_else(|| "target/release/mail".to_owned());
    let kills: usize = args.next().and_then(|text| text.parse().ok()).unwrap_or(100);
    let messages: usize = args.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let program = std::path::absolute(program).expect("a path");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut crash = Crash { program, sink: SmtpSink::start().await, dir, accepted: HashSet::new() };
    let started = Instant::now();
    for round in 1..=kills {
        crash.round(messages * round / (kills + 1), true).await;
    }
    crash.round(messages, false).await;
    crash.report(kills, started.elapsed())
}

impl Crash {
    /// Accepts until there are `wanted` messages in all; then kills at a random moment, or waits for the rest.
    async fn round(&mut self, wanted: usize, kills: bool) {
        let (mut process, url) = self.start().await;
        let client = reqwest::Client::new();
        let mut requests = JoinSet::new();
        while self.accepted.len() < wanted {
            while requests.len() < CLIENTS {
                requests.spawn(submit(client.clone(), url.clone()));
            }
            self.accepted.extend(requests.join_next().await.and_then(Result::ok).flatten());
        }
        if kills {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..50))).await;
            process.kill();
        }
        while let Some(answer) = requests.join_next().await {
            self.accepted.extend(answer.ok().flatten());
        }
        if !kills {
            let all = || async { self.accepted.is_subset(&self.counts().into_keys().collect()).then_some(()) };
            let _too_late = tokio::time::timeout(PATIENCE, wait_for("everything", 2 * PATIENCE, all)).await;
        }
    }

    async fn start(&self) -> (Process, String) {
        let output = self.dir.path().join(format!("output-{}", rand::random::<u64>()));
        let mut command = Command::new(&self.program);
        command.env("MAIL_LISTEN", "127.0.0.1:0").env("LOG_FORMAT", "json").env("REGISTRY_URLS", "http://127.0.0.1:1");
        command.env("MAIL_SMTP_URL", self.sink.url()).env("MAIL_SENDS_MAX", "4").current_dir(self.dir.path());
        command.env("MAIL_OPEN", "true");
        let process = Process::start(&mut command, &output).expect("the program starts");
        let listening = || async {
            let text = process.output();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let line = lines.into_iter().find(|line| line["message"] == "listening")?;
            line["address"].as_str().map(|address| format!("http://{address}/v1/messages"))
        };
        let url = wait_for("listening", Duration::from_secs(20), listening).await;
        (process, url)
    }

    fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for id in self.sink.messages().iter().filter_map(|message| message.header("Message-ID")) {
            *counts.entry(id).or_default() += 1;
        }
        counts
    }

    fn report(&self, kills: usize, took: Duration) -> ExitCode {
        let counts = self.counts();
        let lost = self.accepted.iter().filter(|id| !counts.contains_key(*id)).count();
        let duplicates: usize = counts.values().map(|count| count - 1).sum();
        println!("| kills | accepted | arrived | lost | duplicates | seconds |");
        println!("|---|---|---|---|---|---|");
        let accepted = self.accepted.len();
        let arrived = counts.len();
        println!("| {kills} | {accepted} | {arrived} | {lost} | {duplicates} | {} |", took.as_secs());
        if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The Message-ID of a message that was accepted.
async fn submit(client: reqwest::Client, url: String) -> Option<String> {
    let response = client.post(url).json(&json!({ "to": "a@b.c", "text": "hello" })).send().await.ok()?;
    let is_accepted = response.status().as_u16() == 202;
    let body: Value = response.json().await.ok()?;
    is_accepted.then(|| body["message_id"].as_str().map(str::to_owned)).flatten()
}
