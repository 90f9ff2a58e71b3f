//! Whether the program is well: an HTTP request, a command, or, if neither was asked for, a TCP connection. And whether
//! it is the program that listens, and where it is announced.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use axum::{
    body::Bytes,
    http::{Method, header},
};
use discovery::Status;
use heartbeat::Condition;
use nix::sys::signal::Signal;
use service_kit::client::{self, ClientError, HttpClient};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use crate::{
    config::{Config, Target},
    health::Health,
    launch::{self, Launcher},
    owner::{Listeners, Owner},
    reach::Reach,
};

/// While the program starts, this often at least: a caller that waits for it waits no longer than needed.
const STARTING_INTERVAL: Duration = Duration::from_millis(250);

/// One way to ask.
#[derive(Debug)]
enum Check {
    /// GET answers 2xx or 3xx.
    Http { client: Box<HttpClient>, url: Url },
    /// `sh -c` exits with 0.
    Command { launcher: Launcher, line: String },
    /// It accepts a connection.
    Connect,
}

/// Finds out whether the program is well, and by which address.
#[derive(Debug)]
pub(crate) struct Checker {
    check: Check,
    reach: Reach,
    /// None when whatever listens is taken to be the program.
    owner: Option<Owner>,
}

/// What the checks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) condition: Condition,
    /// What to announce: that the program listens on this.
    pub(crate) listen: SocketAddr,
}

// === impl Checker ===

impl Checker {
    pub(crate) fn new(config: &Config, target: &Target, launcher: &Launcher) -> Self {
        let check = match (&config.check_http, &config.check_cmd) {
            (Some(url), _) => Check::Http { client: Box::new(HttpClient::probe()), url: url.clone() },
            (None, Some(line)) => Check::Command { launcher: launcher.clone(), line: line.clone() },
            (None, None) => Check::Connect,
        };
        let is_owned = !config.command.is_empty() && config.listeners != Listeners::Any;
        let owner = is_owned.then(|| Owner::new(target.port.get()));
        Self { check, reach: Reach::new(target, &config.heartbeat), owner }
    }

    /// Asks once; what the program listens on. The error says, in a few words, what is wrong.
    async fn ask(&mut self, limit: Duration) -> Result<SocketAddr, String> {
        match timeout(limit, self.answer(limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(no_answer_within(limit)),
        }
    }

    async fn answer(&mut self, limit: Duration) -> Result<SocketAddr, String> {
        let is_seen = || self.owner.as_ref().is_some_and(Owner::is_seen);
        // A check that was asked for decides, also about a program that listens where we do not see it.
        let is_to_connect = match &self.check {
            Check::Http { client, url } => http(client, url, limit).await.map(|()| is_seen())?,
            Check::Command { launcher, line } => command(launcher, line).await.map(|()| is_seen())?,
            Check::Connect => true,
        };
        let reached = if is_to_connect { self.reach.connect(limit).await? } else { self.reach.unseen() };
        if let Some(owner) = &mut self.owner {
            owner.confirm(reached.ip)?;
        }
        self.reach.settle(&reached);
        Ok(reached.listen)
    }
}

/// Checks for ever, and tells `verdict` about every change; it holds none until the program was well for the first
/// time.
pub(crate) async fn run(mut checker: Checker, config: Config, verdict: watch::Sender<Option<Verdict>>) {
    let mut health = Health::new(config.rise, config.fall);
    let mut complaint = String::new();
    let mut listen = None;
    loop {
        let started = Instant::now();
        let answer = checker.ask(config.check_timeout).await;
        let reason = answer.as_ref().err().cloned().unwrap_or_default();
        listen = answer.as_ref().ok().copied().or(listen);
        match health.record(answer.is_ok()) {
            Some(status) => {
                match status {
                    Status::Passing => tracing::info!("the check passes"),
                    _ => tracing::warn!(reason, "the check fails"),
                }
                let condition = Condition::new(status, &reason);
                verdict.send_replace(listen.map(|listen| Verdict { condition, listen }));
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
async fn http(client: &HttpClient, url: &Url, limit: Duration) -> Result<(), String> {
    const USER_AGENT: &str = concat!("muster-heartbeat/", env!("CARGO_PKG_VERSION"));
    let shown = without_secrets(url.clone());
    let request = client::request(Method::GET, url).header(header::USER_AGENT, USER_AGENT);
    let request = request.body(Bytes::new()).map_err(|error| format!("{shown}: {error}"))?;
    match client.send(request, limit, 0).await {
        Ok(answer) if answer.status.is_success() || answer.status.is_redirection() => Ok(()),
        Ok(answer) => Err(format!("{shown} answered {}", answer.status.as_u16())),
        Err(ClientError::TimedOut(after)) => Err(no_answer_within(after)),
        Err(error) => Err(format!("{shown}: {}", service_kit::chain(&error))),
    }
}

fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {} ms", limit.as_millis())
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
