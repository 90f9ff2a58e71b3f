//! Get and put over HTTP.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bench::engine::{Clients, Connections, Done, EventLoop, Load, Outcome, Pace, Traffic};
use service_kit::service::Failure;

use super::{Answered, Case, program::USERS};

struct Requests {
    case: Case,
    /// No other run has it, so that no change is one to what is there already.
    run: u128,
    answered: Answered,
    wrong: Option<String>,
}

/// Keeps so many requests under way.
pub(crate) fn run(target: SocketAddr, case: Case, clients: usize, duration: Duration) -> Result<Answered, Failure> {
    let load = Load {
        target,
        pace: Pace::UnderWay(clients),
        connections: Connections::Kept,
        connections_max: clients,
        patience: Duration::from_secs(10),
        spin: false,
    };
    let mut event_loop = EventLoop::new(None)?;
    let mut clients = Clients::new(load);
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let mut requests = Requests { case, run, answered: Answered::default(), wrong: None };
    let until = Instant::now() + duration;
    event_loop.run(&mut clients, &mut requests, |clients, now| {
        if now >= until {
            clients.stop();
        }
        !clients.is_done()
    })?;
    event_loop.close(clients);
    match requests.wrong {
        Some(wrong) if duration > Duration::from_secs(1) => Err(wrong.into()),
        _ => Ok(requests.answered),
    }
}

/// Neighbours in time are not neighbours in the table.
pub(crate) fn name(n: u64) -> String {
    format!("user-{}", n.wrapping_mul(7919) % USERS)
}

// === impl Requests ===

impl Traffic for Requests {
    fn write(&mut self, n: u64, out: &mut Vec<u8>) {
        let name = name(n);
        // Writing into memory does not fail.
        let _ = match self.case {
            Case::Get => write!(out, "GET /v1/users/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            Case::Put => {
                let body = format!(r#"{{"email":"u{n}-{}@example.com"}}"#, self.run);
                write!(
                    out,
                    "PUT /v1/users/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        };
    }

    fn done(&mut self, done: Done<'_>) {
        match done.outcome {
            Outcome::Answered(200, _) => {
                self.answered.latencies_us.push(u64::try_from(done.latency().as_micros()).unwrap_or(u64::MAX));
            }
            Outcome::Answered(status, _) => self.wrong = Some(format!("an answer was {status}")),
            Outcome::Broken(broken) => self.wrong = Some(broken.to_string()),
        }
    }
}
