//! Tells people when a service is gone, has too few instances or is degraded, and when it is back; and when etcd cannot be
//! read, so that none of this is known.
//!
//! ```text
//! catalog ─▶ down detector: for --alert-after? ─▶ news ─▶ collected for --alert-window ─▶ one message
//!    └─────▶ blindness: likewise ──────────────────────────────────────────────────▶ webhook, e-mail
//! every replica watches; the one that holds `alert/sender` in etcd sends, and writes down in `alert/told` what was told
//! ```
//!
//! | room | what it settles |
//! |---|---|
//! | [`options`] | who is told, and from when on |
//! | [`level`], [`down_detector`] | what is worth telling, and when: plain values |
//! | [`blindness`] | the same of etcd itself, and who tells it when etcd cannot be asked |
//! | [`cases`] | which instances, and why |
//! | [`message`] | one message for all that happened within the window |
//! | [`leadership`] | which replica sends |
//! | [`sender`] | the webhook, and a `mail` instance found in our own catalog; tried again until one takes it |
//!
//! What is told is told at least once: a replica that dies between sending and writing it down makes its successor send
//! again. While etcd cannot be read nothing is told of services, because nothing is known; what is missing afterwards is.

pub mod blindness;
pub mod cases;
pub mod down_detector;
pub mod leadership;
pub mod level;
pub mod message;
pub mod options;
pub mod sender;

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    time::{Duration, SystemTime},
};

use discovery::{ServiceName, Status};
use discovery_etcd::Etcd;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use service_kit::client::{ClientTls, ClientTlsError, HttpClient};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

pub use self::options::AlertOptions;
use self::{
    blindness::Blindness,
    down_detector::DownDetector,
    leadership::Leadership,
    level::{Level, Reading},
    message::Message,
    sender::AlertSender,
};
use crate::{catalog::Catalog, mirror::ServiceView};

/// How often the list is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Messages that one way took and the other has not yet; the oldest is given up for one more.
const LATE_MAX: usize = 16;

/// Watches and sends for as long as it is polled.
#[derive(Debug)]
pub struct Alerts {
    catalog: Catalog,
    leadership: Leadership,
    sender: AlertSender,
    down_detector: DownDetector,
    blindness: Blindness,
    sending: Option<Sending>,
    late: VecDeque<JoinSet<bool>>,
    metrics: Metrics,
}

/// A message that no way has taken yet.
#[derive(Debug)]
struct Sending {
    message: Message,
    ways: JoinSet<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Kind {
    /// Fewer instances than needed, or none.
    Down,
    Degraded,
    Recovered,
    EtcdUnreadable,
    EtcdReadable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: Kind,
}

#[derive(Debug, Clone, Default)]
struct Metrics {
    told: Family<KindLabel, Counter>,
    messages: Counter,
    is_sender: Gauge,
}

// === impl Alerts ===

impl Alerts {
    /// By `options`; `None` when no receiver of alerts is configured.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be used.
    pub fn new(
        options: &AlertOptions,
        etcd: Etcd,
        catalog: Catalog,
        holder: String,
        registry: &mut Registry,
    ) -> Result<Option<Self>, ClientTlsError> {
        if !options.is_on() {
            return Ok(None);
        }
        let metrics = Metrics::default();
        registry.register("registry_alerts", "What people were told of, by what happened", metrics.told.clone());
        registry.register("registry_alert_messages", "Messages that were taken", metrics.messages.clone());
        registry.register("registry_alert_sender", "1 on the replica that sends", metrics.is_sender.clone());
        let client = HttpClient::new(&ClientTls::default())?;
        Ok(Some(Self {
            leadership: Leadership::new(etcd, holder.clone()),
            sender: AlertSender::new(options, client, catalog.clone(), holder),
            down_detector: DownDetector::new(options.rules()),
            blindness: Blindness::new(options.alert_after, Instant::now()),
            sending: None,
            late: VecDeque::new(),
            catalog,
            metrics,
        }))
    }

    /// Never ends.
    pub async fn run(mut self) -> Infallible {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let is_fresh = self.catalog.sync().is_fresh();
            self.blindness.observe(is_fresh, Instant::now());
            if is_fresh {
                self.down_detector.observe(&self.readings(), Instant::now());
            }
            if let Some(told) = self.leadership.tick(Instant::now()).await {
                self.down_detector.take_over(&told, Instant::now());
            }
            self.metrics.is_sender.set(self.leadership.is_held().into());
            self.send().await;
        }
    }

    fn readings(&self) -> BTreeMap<ServiceName, Reading> {
        self.catalog.services().iter().map(|service| (service.name.clone(), reading(service))).collect()
    }

    /// Looks after the message under way, or starts the next one.
    async fn send(&mut self) {
        self.look_after().await;
        if self.sending.is_some() {
            return;
        }
        let now = Instant::now();
        if let Some(sight) = self.blindness.due(self.leadership.is_last(), now) {
            self.begin(Message::of_etcd(sight));
        } else if self.leadership.is_held()
            && let Some(mut message) = self.down_detector.due(now)
            && self.leadership.confirm().await
        {
            self.tell_cases(&mut message);
            self.begin(message);
        }
    }

    /// Which instances make the trouble, as it is now.
    fn tell_cases(&self, message: &mut Message) {
        for news in message.news.iter_mut().filter(|news| news.level > Level::Enough) {
            let service = self.catalog.service(&news.service);
            news.cases = service.map(|service| cases::of(&service, SystemTime::now())).unwrap_or_default();
        }
    }

    fn begin(&mut self, message: Message) {
        tracing::warn!(summary = message.subject(), "sending an alert");
        let ways = self.sender.deliver(&message);
        self.sending = Some(Sending { message, ways });
    }

    /// People know a message once one way has taken it; the other goes on. One that none takes is as good as told: it was
    /// logged as lost.
    async fn look_after(&mut self) {
        for ways in &mut self.late {
            while ways.try_join_next().is_some() {}
        }
        self.late.retain(|ways| !ways.is_empty());
        let Some(sending) = &mut self.sending else { return };
        let mut is_taken = false;
        while let Some(ended) = sending.ways.try_join_next() {
            match ended {
                Ok(taken) => is_taken |= taken,
                Err(error) => tracing::error!(error = %service_kit::chain(&error), "an alert was not sent"),
            }
        }
        if (is_taken || sending.ways.is_empty())
            && let Some(Sending { message, ways }) = self.sending.take()
        {
            if self.late.len() >= LATE_MAX {
                tracing::error!("an alert was dropped: its queue is full");
                self.late.pop_front();
            }
            self.late.push_back(ways);
            self.note(&message).await;
        }
    }

    /// Writes down what was told, for ourselves and for the replica that comes after us.
    async fn note(&mut self, message: &Message) {
        self.metrics.messages.inc();
        let count = |kind| _ = self.metrics.told.get_or_create(&KindLabel { kind }).inc();
        for news in &message.news {
            count(match news.level {
                Level::Enough => Kind::Recovered,
                Level::Degraded => Kind::Degraded,
                Level::BelowMinimum | Level::Down => Kind::Down,
            });
        }
        if let Some(sight) = message.sight {
            count(if sight.is_lost { Kind::EtcdUnreadable } else { Kind::EtcdReadable });
            self.blindness.told(sight);
            return;
        }
        self.down_detector.sent(message);
        self.leadership.write_down(&self.down_detector.believed()).await;
    }
}

/// How many instances take requests, and how many of those are degraded.
fn reading(service: &ServiceView) -> Reading {
    let in_rotation = service.in_rotation();
    in_rotation.fold(Reading::default(), |reading, entry| Reading {
        in_rotation: reading.in_rotation + 1,
        degraded: reading.degraded + usize::from(entry.status() == Status::Degraded),
    })
}
