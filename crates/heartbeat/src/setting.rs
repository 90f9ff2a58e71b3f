//! A setting of the config centre, kept up to date: what a service reads its own configuration with.
//!
//! ```no_run
//! # async fn f(options: heartbeat::HeartbeatOptions) -> Result<(), discovery::FieldError> {
//! let mut limit = heartbeat::setting::follow(&options, "shop/limit".parse()?);
//! while limit.changed().await.is_ok() {
//!     match limit.borrow_and_update().value() {
//!         Some(value) => println!("the limit is {value} now"),
//!         None => println!("no limit is set: back to the default"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! One long poll waits at one registry for the next change, so a change is told within milliseconds. When that registry
//! dies, asks to wait, or has heard nothing from etcd, the next one is asked; when none can answer, all of them again,
//! less and less often, at most every [`PAUSE_MAX`], with full jitter. A registry that is frozen is given up after
//! [`WAIT`] and [`ANSWER`].
//!
//! *What was read stays.* An outage of every registry, or of etcd, changes nothing: the last value holds. A value is
//! taken back only by a registry that says that it was deleted. An etcd that was wiped says so, too, but with a
//! revision that went backwards; then the last value holds until one is written again. Nothing is ever read back from a
//! replica that lags: what would be a step back is asked of etcd itself first (`progress`).
//!
//! A token or key needs the scope `SERVICE:read` for this, beside `SERVICE:register`.

mod log;
mod progress;

use std::{sync::Arc, time::Duration};

use discovery::SettingKey;
use rand::RngExt as _;
use service_kit::{backoff::Backoff, chain};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub use self::log::follow_log_filter;
use self::progress::Progress;
pub use crate::poll::{ANSWER, WAIT};
use crate::{HeartbeatError, HeartbeatOptions, RegistryUrl, client::Client, registries::Registries, schedule};

/// The longest pause while no registry can answer.
pub const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The shortest of these pauses.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Between two polls when the first said nothing new and came back early: no registry sends us into a busy loop.
const PACE: Duration = Duration::from_millis(250);

/// What is known of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SettingValue {
    /// No registry has answered yet.
    #[default]
    Unknown,
    /// There is none, or it was deleted.
    Absent,
    /// It is this.
    Is {
        /// The value, at most 64 KiB.
        value: Arc<str>,
        /// When it was written, as etcd counts.
        revision: i64,
    },
}

/// Follows one setting at the registries of `options` for as long as any receiver of it is held.
///
/// The receiver shows [`SettingValue::Unknown`] until the first answer, and is woken by changes only.
///
/// # Panics
///
/// Outside a Tokio runtime.
#[must_use = "a setting whose receiver is dropped is not followed"]
pub fn follow(options: &HeartbeatOptions, key: SettingKey) -> watch::Receiver<SettingValue> {
    let (readings, seen) = watch::channel(SettingValue::Unknown);
    let follower = Follower {
        key,
        urls: options.registries.clone(),
        client: Client::new(options.credentials.clone(), &options.registries),
        registries: Registries::new(options.registries.len(), rand::rng().random_range(0..=usize::MAX)),
        progress: Progress::default(),
        failures: Backoff::new(PAUSE_MIN, PAUSE_MAX),
    };
    tokio::spawn(async move {
        tokio::select! {
            () = readings.closed() => {}
            never = follower.run(&readings) => match never {},
        }
    });
    seen
}

/// Everything that the loop owns.
#[derive(Debug)]
struct Follower {
    key: SettingKey,
    urls: Vec<RegistryUrl>,
    client: Client,
    registries: Registries,
    progress: Progress,
    failures: Backoff,
}

// === impl SettingValue ===

impl SettingValue {
    /// The value; none when there is none, or none is known yet.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Is { value, .. } => Some(value),
            Self::Unknown | Self::Absent => None,
        }
    }
}

// === impl Follower ===

impl Follower {
    async fn run(mut self, readings: &watch::Sender<SettingValue>) -> std::convert::Infallible {
        loop {
            let started = Instant::now();
            let pause = match self.ask().await {
                Ok(is_news) => {
                    self.recovered();
                    self.tell(readings);
                    if is_news { Duration::ZERO } else { PACE.saturating_sub(started.elapsed()) }
                }
                Err(error) => self.failed(&error),
            };
            sleep(pause).await;
        }
    }

    /// One request, to each registry in turn until one answers. Whether that was anything new.
    async fn ask(&mut self) -> Result<bool, HeartbeatError> {
        let request = self.progress.request();
        let mut failure = HeartbeatError::BackedOff;
        for index in self.registries.order(Instant::now()) {
            match self.client.get_setting(&self.urls[index], &self.key, request).await {
                Ok(said) => {
                    self.registries.worked(index);
                    return Ok(self.progress.take(request, said));
                }
                Err(error) => {
                    self.rank(index, &error);
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    fn rank(&mut self, index: usize, error: &HeartbeatError) {
        let now = Instant::now();
        tracing::debug!(key = %self.key, error = %chain(error), "this registry cannot read the setting");
        match error {
            HeartbeatError::Busy { retry_after, .. } => {
                let pause = schedule::held(*retry_after, schedule::HELD_MAX, rand::rng().random_range(0.0..=1.0));
                let until = now + pause;
                self.registries.asked_to_wait(index, now, until);
            }
            _ => self.registries.failed(index, now),
        }
    }

    /// Tells once that the setting is not followed any more, and how long to wait.
    fn failed(&mut self, error: &HeartbeatError) -> Duration {
        if self.failures.failures() == 0 {
            let key = &self.key;
            let error = chain(error);
            match self.progress.reading() {
                SettingValue::Unknown => tracing::info!(%key, %error, "cannot read the setting yet; retrying"),
                _ => tracing::warn!(%key, %error, "cannot read the setting; the last value stays in force"),
            }
        }
        let pause = self.failures.next_wait();
        let held_until = self.registries.held_until(Instant::now());
        held_until.map_or(pause, |until| pause.max(until.saturating_duration_since(Instant::now())))
    }

    fn recovered(&mut self) {
        if self.failures.failures() > 0 {
            tracing::info!(key = %self.key, "setting read again");
            self.failures.reset();
        }
    }

    fn tell(&self, readings: &watch::Sender<SettingValue>) {
        let reading = self.progress.reading();
        readings.send_if_modified(|known| {
            let is_changed = known != reading;
            if is_changed {
                known.clone_from(reading);
            }
            is_changed
        });
    }
}
