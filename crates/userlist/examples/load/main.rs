//! Measures get and put, beside a plain program in Go and the same statements in a loop without a service.
//!
//! ```text
//! cargo build --release -p userlist
//! GO111MODULE=off GOPATH=/usr/share/gocode go build -o target/plain-go crates/userlist/examples/plain-go/main.go
//! cargo run --release -p userlist --example load -- [--rounds 5] [--seconds 3] [--clients 16] [DATABASE_URL…]
//! ```
//!
//! Without a URL: a SQLite file in a temporary folder. For MySQL give the URL of an empty database, and the process id
//! of its server. The programs, each in a process of its own:
//!
//! - `userlist`: `PUT` and `GET /v1/users/{name}` over as many kept connections as there are clients;
//! - `go`: the same from `plain-go`, on the same database;
//! - `raw`: as many database connections as clients, each sending one prepared statement after the other, as a program
//!   would that has the database to itself. Its PUT is one statement, where the others read first.
//!
//! Each round measures all of them one right after the other. A line has the medians of the rounds: requests a second,
//! processor time of the program and of the database's server for each request, and the 99th percentile of the time
//! from when a request was sent. For a file, the time of SQLite is in the program's.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod program;
mod raw;
mod traffic;

use std::{path::PathBuf, time::Duration};

use bench::{cost::Cost, rounds::median};
use clap::Parser;
use service_kit::service::Failure;

use self::program::Program;

#[derive(Debug, Clone, Parser)]
struct Options {
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// How long each time.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Requests at the same time.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// The service.
    #[arg(long, default_value = "target/release/userlist")]
    userlist: PathBuf,
    /// The program to compare with; left out where there is none.
    #[arg(long, default_value = "target/plain-go")]
    go: PathBuf,
    /// The database's server, whose processor time is to be told as well.
    #[arg(long)]
    server: Option<u32>,
    /// Databases; each must be empty.
    urls: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Get,
    Put,
}

/// What came of one measurement.
#[derive(Debug, Clone, Copy)]
struct Figure {
    per_second: f64,
    cpu_us: f64,
    server_us: f64,
    p99_ms: f64,
}

/// Requests that were answered, and how long each took, in microseconds.
#[derive(Debug, Default)]
struct Answered {
    latencies_us: Vec<u64>,
}

fn main() -> Result<(), Failure> {
    let mut options = Options::parse();
    let folder = tempfile::tempdir()?;
    if options.urls.is_empty() {
        options.urls.push(format!("sqlite:{}/users.db", folder.path().display()));
    }
    println!("database what program   requests/s   CPU µs   server's µs   p99 ms");
    for url in &options.urls {
        let programs = program::start(url, &options, folder.path())?;
        for case in [Case::Get, Case::Put] {
            compare(url, case, &programs, &options)?;
        }
    }
    Ok(())
}

fn compare(url: &str, case: Case, programs: &[Program], options: &Options) -> Result<(), Failure> {
    let mut figures = vec![Vec::new(); programs.len()];
    for _ in 0..options.rounds {
        for (program, figures) in programs.iter().zip(&mut figures) {
            figures.push(measure(program, case, options)?);
        }
    }
    let kind = url.split(':').next().unwrap_or_default();
    for (program, figures) in programs.iter().zip(&figures) {
        let of =
            |figure: fn(&Figure) -> f64| median(&figures.iter().map(figure).collect::<Vec<_>>()).unwrap_or_default();
        println!(
            "{kind:8} {:4} {:8} {:11.0} {:8.0} {:13.0} {:8.1}",
            format!("{case:?}").to_lowercase(),
            program.name(),
            of(|figure| figure.per_second),
            of(|figure| figure.cpu_us),
            of(|figure| figure.server_us),
            of(|figure| figure.p99_ms)
        );
    }
    Ok(())
}

fn measure(program: &Program, case: Case, options: &Options) -> Result<Figure, Failure> {
    let duration = Duration::from_secs(options.seconds);
    let server = || options.server.map_or(Ok(Duration::ZERO), |id| Cost::of(id).map(|cost| cost.cpu));
    let mut before = (Duration::ZERO, Duration::ZERO);
    let answered = program.load(case, options.clients, duration, &mut || {
        before = (program.cpu()?, server()?);
        Ok(())
    })?;
    let cpu = program.cpu()? - before.0;
    let server = server()? - before.1;
    let requests = answered.latencies_us.len().max(1) as f64;
    let mut latencies = answered.latencies_us;
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    Ok(Figure {
        per_second: requests / duration.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / requests,
        server_us: server.as_secs_f64() * 1e6 / requests,
        p99_ms: p99 as f64 / 1e3,
    })
}
