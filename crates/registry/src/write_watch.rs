//! Whether etcd writes, for `/readyz` and the log: the other half of what the [mirror](crate::mirror) tells about reading.
//!
//! An etcd that is full, or whose role allows reading only, serves every list and keeps every lease alive, and takes no new
//! instance. So this registry is *degraded* then: it goes on with what it can do, and says what it cannot.
//!
//! | | how it is known |
//! |---|---|
//! | writes fail | by the writes themselves ([`discovery_etcd::WriteHealth`]); by an alarm of etcd, looked for every [`ALARM_INTERVAL`] |
//! | writes succeed again | by the writes themselves; while they fail, by a lease that is granted and given back every [`PROBE_INTERVAL`] |

use std::{convert::Infallible, time::Duration};

use discovery_etcd::{Etcd, WriteTrouble};
use service_kit::{duration, health::Readiness};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::mirror::Mirror;

/// The name of the check in `/readyz`.
const CHECK: &str = "etcd_writes";
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often etcd is asked for an alarm while nothing fails. It costs no entry in etcd's log.
pub const ALARM_INTERVAL: Duration = Duration::from_secs(5);
/// How often a write is tried while writes fail.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Tells `readiness` how writes go, for as long as it is polled.
pub async fn run(etcd: Etcd, mirror: Mirror, readiness: Readiness) -> Infallible {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: Option<Instant> = None;
    let mut failing_since = None;
    loop {
        ticks.tick().await;
        let is_failing = etcd.writes().trouble(Instant::now()).is_some();
        let pause = if is_failing { PROBE_INTERVAL } else { ALARM_INTERVAL };
        // While etcd cannot be read, that is what is wrong; neither question would be answered.
        if mirror.is_fresh() && asked.is_none_or(|asked| asked.elapsed() >= pause) {
            asked = Some(Instant::now());
            match is_failing {
                // How it went is noted where it was tried.
                true => _ = etcd.probe_writes().await,
                false => etcd.look_for_alarms().await,
            }
        }
        let trouble = etcd.writes().trouble(Instant::now());
        report(&readiness, trouble.filter(|trouble| trouble.lasts() || mirror.is_fresh()), &mut failing_since);
    }
}

fn report(readiness: &Readiness, trouble: Option<WriteTrouble>, failing_since: &mut Option<Instant>) {
    let reason = trouble.as_ref().map(|trouble| format!("etcd does not write: {}", trouble.error.answer()));
    if !readiness.degrade(CHECK, reason) {
        return;
    }
    match trouble {
        Some(WriteTrouble { since, error, .. }) => {
            let advice = error.advice().unwrap_or_default();
            let error = service_kit::chain(&error).to_string();
            tracing::warn!(
                error,
                advice,
                "etcd does not write: no instance can register or change, no setting be written; lists are served, and \
                 registered instances stay"
            );
            *failing_since = Some(since);
        }
        None => {
            if let Some(since) = failing_since.take() {
                let lasted = duration::format(Duration::from_secs(since.elapsed().as_secs()));
                tracing::info!(lasted, "etcd writes again");
            }
        }
    }
}
