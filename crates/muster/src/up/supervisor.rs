//! Keeps one process running: starts it, says when it is ready, says when it dies, starts it again or gives it up.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    state::process_id::ProcessId,
    up::{
        child::{Child, describe},
        console::Console,
        etcd::advice,
        process_table::{Condition, ProcessTable},
        readiness::Prober,
        restart_policy::{RestartPolicy, Verdict},
        topology::{Process, Stage},
    },
};

/// What all supervisors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) console: Console,
    pub(crate) process_table: ProcessTable,
    pub(crate) prober: Prober,
    /// How long a process may take to end before it is killed.
    pub(crate) grace: Duration,
    /// Leave out what etcd says while its members come and go.
    pub(crate) is_quiet: bool,
    /// Cancelled by a second signal: whatever still runs is killed.
    pub(crate) force: CancellationToken,
}

/// How one life went.
enum Run {
    /// It ended by itself, after being ready or not.
    Died { how: String, was_ready: bool, last_lines: Vec<String> },
    /// It was asked to end, and did.
    Stopped,
}

/// Keeps `process` running until `stop` is cancelled, then ends it; returns when it does not run any more.
pub(crate) async fn keep_running(process: Process, shared: Arc<Shared>, stop: CancellationToken) {
    let Shared { console, process_table, .. } = &*shared;
    let name = process.name.as_str();
    let mut policy = RestartPolicy::new();
    loop {
        let started = Instant::now();
        let (how, was_ready, last_lines) = match run_once(&process, &shared, &stop).await {
            Run::Died { how, was_ready, last_lines } => (how, was_ready, last_lines),
            Run::Stopped => break,
        };
        let wait = match policy.died(Instant::now(), started.elapsed(), was_ready) {
            Verdict::Again(wait) => wait,
            Verdict::GiveUp => {
                give_up(&process, &shared, &how, &last_lines);
                return;
            }
        };
        console.say(&format!("{name} ended ({how}); starting it again in {:.1} s", wait.as_secs_f64()));
        process_table.update(name, |entry| {
            entry.condition = Condition::Restarting;
            (entry.pid, entry.identity) = (None, None);
        });
        tokio::select! {
            () = sleep(wait) => process_table.update(name, |entry| entry.restarts += 1),
            () = stop.cancelled() => break,
        }
    }
    process_table.update(name, |entry| {
        entry.condition = Condition::Stopped;
        (entry.pid, entry.identity) = (None, None);
    });
}

fn give_up(process: &Process, shared: &Shared, how: &str, last_lines: &[String]) {
    let name = process.name.as_str();
    shared.console.say(&format!("{name} ended again ({how}) and was never ready: giving up on it. Its last lines:"));
    for line in last_lines {
        shared.console.child(name, &format!("  {line}"));
    }
    if process.stage == Stage::Etcd {
        for line in advice::lines(name, &process.folder.display().to_string(), last_lines) {
            shared.console.say(&line);
        }
    }
    shared.process_table.update(name, |entry| {
        entry.condition = Condition::GivenUp(format!("it ended ({how}) again and again"));
        (entry.pid, entry.identity) = (None, None);
    });
}

/// One life, from start to end.
async fn run_once(process: &Process, shared: &Shared, stop: &CancellationToken) -> Run {
    let name = process.name.as_str();
    let mut child = match Child::start(process, &shared.console) {
        Ok(child) => child,
        Err(error) => {
            return Run::Died { how: format!("it cannot be started: {error}"), was_ready: false, last_lines: vec![] };
        }
    };
    shared.process_table.update(name, |entry| {
        entry.condition = Condition::Starting("it was started a moment ago".to_owned());
        (entry.pid, entry.identity) = (Some(child.pid()), ProcessId::of(child.pid()));
    });
    let mut was_ready = false;
    let status = {
        let not_yet = |why| shared.process_table.set(name, Condition::Starting(why));
        let mut readiness = std::pin::pin!(shared.prober.wait_for(&process.readiness_url, not_yet));
        loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut readiness, if !was_ready => {
                    was_ready = true;
                    became_ready(name, shared);
                }
                () = stop.cancelled() => {
                    end(name, &mut child, shared).await;
                    return Run::Stopped;
                }
            }
        }
    };
    let how = status.map_or_else(|error| error.to_string(), describe);
    Run::Died { how, was_ready, last_lines: child.last_lines().await }
}

fn became_ready(name: &str, shared: &Shared) {
    let mut restarts = 0;
    shared.process_table.update(name, |entry| {
        entry.condition = Condition::Ready;
        restarts = entry.restarts;
    });
    if restarts > 0 {
        shared.console.say(&format!("{name} is ready again"));
    }
}

/// Asks for the end, and waits for it as long as there is patience.
async fn end(name: &str, child: &mut Child, shared: &Shared) {
    shared.process_table.set(name, Condition::Stopping);
    child.terminate();
    tokio::select! {
        _ = child.wait() => return,
        () = shared.force.cancelled() => {}
        () = sleep(shared.grace) => {
            shared.console.say(&format!("{name} did not end within {} s: killing it", shared.grace.as_secs_f64()));
        }
    }
    child.kill();
    // Nothing refuses SIGKILL.
    let _ = child.wait().await;
}
