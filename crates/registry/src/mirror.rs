//! etcd as this replica sees it: the [`MirrorState`], kept up to date by a watch.
//!
//! Reading it costs no call to etcd; that is what makes a steady heartbeat cheap, and a list answerable while etcd is
//! away. It is behind etcd by milliseconds, and when the watch breaks, by as long as [`Mirror::age`] says.
//!
//! | file | what it settles |
//! |---|---|
//! | [`state`] | everything that is known, as one value: changes go in, answers come out. Pure |
//! | `service`, `rendered` | one service and its instances, as readers get them |
//! | `record`, `tombstone` | what is remembered of a service: its index, and which instances are gone |
//! | `pending_commits` | what this replica has committed and the watch has not shown yet |
//! | `notifier` | which subscribers a change wakes |
//! | [`vanished`] | keys that were deleted without having been marked as draining, for the restorer |

mod notifier;
pub mod pending_commits;
mod record;
mod rendered;
mod service;
pub mod state;
mod tombstone;
pub mod vanished;

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};

use discovery::{InstanceKey, OtherHolder, Revision};
use discovery_etcd::{Change, Held, Watch, WatchHealth, WatchState};
use futures::StreamExt as _;
use service_kit::{duration, health::Readiness};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use self::{
    notifier::{ChangeNotifier, Subscription, Topic},
    rendered::Rendered,
    service::{Delta, Entry, ServiceView, Since},
    tombstone::{Cause, KEPT_FOR, Tombstone},
};
pub(crate) use self::{record::Record, tombstone::Tombstones};
use self::{
    state::{MirrorState, Touched},
    vanished::VanishedSender,
};

/// A mirror that has heard nothing from etcd for longer than this is stale. The watch hears from
/// etcd at least about once a second and gives a silent member up after two.
pub const FRESH_MAX: Duration = Duration::from_secs(3);

/// How often readiness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often expired tombstones are dropped.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// A handle on what is known. Cheap to clone; clones see the same.
#[derive(Debug, Clone)]
pub struct Mirror {
    view: Arc<RwLock<MirrorState>>,
    health: WatchHealth,
    notifier: ChangeNotifier,
    vanished: Option<VanishedSender>,
}

// === impl Mirror ===

impl Mirror {
    /// Empty; [`run`] fills it.
    pub fn new(health: WatchHealth) -> Self {
        Self { view: Arc::default(), health, notifier: ChangeNotifier::default(), vanished: None }
    }

    /// Reports to `vanished` every instance whose key is deleted without having been marked as draining.
    #[must_use]
    pub fn reporting_to(mut self, vanished: VanishedSender) -> Self {
        self.vanished = Some(vanished);
        self
    }

    /// What is known. Keep it for as long as it takes to look: nothing is learned meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, MirrorState> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago etcd last confirmed what is known; `None` when nothing has ever been.
    pub fn age(&self) -> Option<Duration> {
        // The watch knows of the first list a moment before the view has it.
        self.read().is_loaded().then(|| self.health.lag(Instant::now())).flatten()
    }

    /// Whether what is known can be taken for what is.
    pub fn is_fresh(&self) -> bool {
        self.health.heard().is_some_and(|heard| heard.elapsed() <= FRESH_MAX)
    }

    /// What is known, if it can be taken for what is.
    pub fn read_fresh(&self) -> Option<RwLockReadGuard<'_, MirrorState>> {
        self.is_fresh().then(|| self.read())
    }

    /// Notifies subscribers of changes.
    pub fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    /// How the watch is.
    pub fn health(&self) -> WatchState {
        self.health.state()
    }

    /// Notes what this replica has committed, until the watch brings it.
    pub fn commit(&self, key: InstanceKey, revision: Revision, held: Option<Held>) {
        self.change().commit(key, revision, held);
    }

    /// Notes who else claims an instance's id, or that no other does any more.
    pub fn contest(&self, key: &InstanceKey, other: Option<&OtherHolder>) {
        let touched = self.change().contest(key, other);
        self.notify(touched);
    }

    /// Says to `readiness` how it is. Also before anything is served: a service of which nothing is known yet is not ready.
    pub fn report(&self, readiness: &Readiness) {
        report(readiness, self.verdict());
    }

    fn change(&self) -> RwLockWriteGuard<'_, MirrorState> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, change: Change) {
        for unreadable in &change.unreadable {
            tracing::warn!(key = unreadable.key, reason = %unreadable.reason, "invalid key or value in etcd, skipped");
        }
        let mut touched = self.change().apply(change, SystemTime::now());
        if let Some(vanished) = &self.vanished {
            vanished.report(std::mem::take(&mut touched.vanished));
        }
        self.notify(touched);
    }

    /// Between two changes: the watch has told everything up to its revision.
    fn advance(&self) {
        let WatchState { revision, last_response, .. } = self.health.state();
        if last_response.is_some() && self.change().advance(revision) {
            self.notifier.notify_all();
        }
    }

    fn notify(&self, Touched { services, list, all, .. }: Touched) {
        if all {
            return self.notifier.notify_all();
        }
        let list = list.then_some(Topic::Services);
        self.notifier.notify(services.into_iter().map(Topic::Service).chain(list));
    }

    /// Why this replica cannot do its work, if so.
    fn verdict(&self) -> Result<(), String> {
        let WatchState { connected, last_response, last_error, .. } = self.health.state();
        // The watch knows of the first list a moment before the view has it.
        let Some(heard) = last_response.filter(|_| self.read().is_loaded()) else {
            return Err(because("nothing has been read from etcd yet", last_error));
        };
        match heard.elapsed() {
            silence if silence > FRESH_MAX => {
                let silence = duration::format(Duration::from_secs(silence.as_secs()));
                Err(because(&format!("no word from etcd for {silence}"), last_error))
            }
            _ if !connected => Err(because("the watch is not open", last_error)),
            _ => Ok(()),
        }
    }
}

/// Feeds `mirror` from `watch`, and tells `readiness` how it goes, for as long as it is polled.
pub async fn run(mut watch: Watch, mirror: Mirror, readiness: Readiness) -> Infallible {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forgetting = interval(FORGET_INTERVAL);
    forgetting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = watch.next() => mirror.apply(change.expect("a watch never ends")),
            _ = forgetting.tick() => mirror.change().expire(SystemTime::now()),
            _ = ticks.tick() => {
                mirror.advance();
                mirror.report(&readiness);
            }
        }
    }
}

fn report(readiness: &Readiness, verdict: Result<(), String>) {
    let reason = verdict.as_ref().err().cloned();
    if readiness.report("etcd", verdict) {
        match reason {
            Some(reason) => tracing::warn!(reason, "not ready"),
            None => tracing::info!("ready"),
        }
    }
}

fn because(what: &str, error: Option<String>) -> String {
    match error {
        Some(error) => format!("{what}: {error}"),
        None => what.to_owned(),
    }
}
