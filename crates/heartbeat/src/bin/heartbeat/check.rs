//! Whether the program is well: an HTTP request, a command, or, if neither was asked for, a TCP connection.

use std::{ffi::OsString, time::Duration};

use discovery::{Address, Status};
use heartbeat::Condition;
use nix::sys::signal::Signal;
use reqwest::Url;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    config::{Config, Target},
    health::Health,
    launch::{self, Launcher},
};

/// While the program starts, this often at least: whoever waits for it waits no longer than needed.
const STARTING_INTERVAL: Duration = Duration::from_millis(250);

/// One way to ask.
#[derive(Debug)]
pub(crate) enum Check {
    /// GET answers 2xx or 3xx.
    Http { client: reqwest::Client, url: Url },
    /// `sh -c` exits with 0.
    Command { launcher: Launcher, line: String },
    /// One of these accepts a connection.
    Connect { addresses: Vec<Address> },
}

// === impl Check ===

impl Check {
    pub(crate) fn new(config: &Config, target: &Target, launcher: &Launcher) -> reqwest::Result<Self> {
        Ok(match (&config.check_http, &config.check_cmd) {
            (Some(url), _) => Self::Http { client: http_client()?, url: url.clone() },
            (None, Some(line)) => Self::Command { launcher: launcher.clone(), line: line.clone() },
            (None, None) => Self::Connect { addresses: target.local() },
        })
    }

    /// Asks once. The error says, in a few words, what is wrong.
    async fn ask(&self, limit: Duration) -> Result<(), String> {
        let answer = async {
            match self {
                Self::Http { client, url } => http(client, url).await,
                Self::Command { launcher, line } => command(launcher, line).await,
                Self::Connect { addresses } => connect(addresses).await,
            }
        };
        match timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
        }
    }
}

/// Checks for ever, and tells `verdict` about every change; it holds none until the program was well for the first time.
pub(crate) async fn run(check: Check, config: Config, verdict: watch::Sender<Option<Condition>>) {
    let mut health = Health::new(config.rise, config.fall);
    let mut complaint = String::new();
    loop {
        let started = Instant::now();
        let answer = check.ask(config.check_timeout).await;
        let reason = answer.as_ref().err().cloned().unwrap_or_default();
        match health.record(answer.is_ok()) {
            Some(status) => {
                match status {
                    Status::Passing => tracing::info!("the check passes"),
                    _ => tracing::warn!(reason, "the check fails"),
                }
                verdict.send_replace(Some(Condition::new(status, &reason)));
            }
            None if !health.has_passed() && answer.is_err() && reason != complaint => {
                tracing::info!(reason, "waiting for the check to pass");
            }
            None => {}
        }
        complaint = reason;
        let interval = config.check_interval;
        let interval = if health.has_passed() { interval } else { interval.min(STARTING_INTERVAL) };
        sleep_until(started + interval).await;
    }
}

/// Every check is a connection of its own: a program that accepts no more of them is not well.
fn http_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("muster-heartbeat/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn http(client: &reqwest::Client, url: &Url) -> Result<(), String> {
    let shown = without_secrets(url.clone());
    match client.get(url.clone()).send().await {
        Ok(response) if response.status().is_success() || response.status().is_redirection() => Ok(()),
        Ok(response) => Err(format!("{shown} answered {}", response.status().as_u16())),
        Err(error) => Err(format!("{shown}: {}", service_kit::chain(&error.without_url()))),
    }
}

/// The URL may carry a user and a password, the log may not.
fn without_secrets(mut url: Url) -> Url {
    // They fail for URLs that have no host, and thus nothing to take away.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

async fn command(launcher: &Launcher, line: &str) -> Result<(), String> {
    let args = [OsString::from("-c"), OsString::from(line)];
    // Dropped at the end of this function or at the time limit: either way its process group goes with it.
    let mut launched = launcher
        .start("sh".as_ref(), &args, Signal::SIGKILL, launch::silent)
        .map_err(|error| format!("cannot run sh: {error}"))?;
    match launched.child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{line:?} ended with {status}")),
        Err(error) => Err(format!("cannot wait for {line:?}: {error}")),
    }
}

async fn connect(addresses: &[Address]) -> Result<(), String> {
    let mut reasons = Vec::new();
    for address in addresses {
        match TcpStream::connect(address.to_string()).await {
            Ok(_) => return Ok(()),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    Err(format!("nothing accepts connections ({}); --host says where it listens", reasons.join(", ")))
}
