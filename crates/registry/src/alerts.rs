//! Tells people when a service is gone, or has too few instances, and when it is back.
//!
//! ```text
//! catalog ─▶ watchlist: too few for --alert-after? ─▶ news ─▶ collected for --alert-window ─▶ one message
//!                                                                                              │ webhook, e-mail
//! every replica watches; the one that holds `alert/sender` in etcd sends, and writes down in `alert/told` what was told
//! ```
//!
//! | room | what it settles |
//! |---|---|
//! | [`options`] | who is told, and from when on |
//! | [`watchlist`] | what is worth telling, and when: plain values |
//! | [`message`] | one message for all that happened within the window |
//! | [`office`] | which replica sends |
//! | [`post`] | the webhook, and a `mail` instance found in our own catalog; tried again until one takes it |
//!
//! What is told is told at least once: a replica that dies between sending and writing it down makes its successor send
//! again. While etcd cannot be read nothing is told, because nothing is known; what is missing afterwards is.

pub mod message;
pub mod office;
pub mod options;
pub mod post;
pub mod watchlist;

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use discovery::ServiceName;
use discovery_etcd::Etcd;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use service_kit::client::{ClientTls, ClientTlsError, HttpClient};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

pub use self::options::AlertOptions;
use self::{message::Message, office::Office, post::Post, watchlist::Watchlist};
use crate::catalog::Catalog;

/// How often the list is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Watches and sends for as long as it is polled.
#[derive(Debug)]
pub struct Alerts {
    catalog: Catalog,
    office: Office,
    post: Post,
    watchlist: Watchlist,
    sending: Option<JoinHandle<Message>>,
    metrics: Metrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Kind {
    Down,
    Recovered,
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
    /// By `options`; `None` when nobody is to be told.
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
        registry.register("registry_alerts", "Services told of, by what happened", metrics.told.clone());
        registry.register("registry_alert_messages", "Messages that were taken", metrics.messages.clone());
        registry.register("registry_alert_sender", "1 on the replica that sends", metrics.is_sender.clone());
        let client = HttpClient::new(&ClientTls::default())?;
        Ok(Some(Self {
            office: Office::new(etcd, holder.clone()),
            post: Post::new(options, client, catalog.clone(), holder),
            watchlist: Watchlist::new(options.rules()),
            sending: None,
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
            if self.catalog.sync().is_fresh() {
                self.watchlist.observe(&self.counts(), Instant::now());
            }
            if let Some(told) = self.office.attend(Instant::now()).await {
                self.watchlist.take_over(&told, Instant::now());
            }
            self.metrics.is_sender.set(self.office.is_held().into());
            self.send().await;
        }
    }

    /// Of how many instances each service consists, not counting those that are critical: they take no requests.
    fn counts(&self) -> BTreeMap<ServiceName, usize> {
        let usable = |service: &crate::catalog::ServiceView| {
            let all = service.instances.iter();
            all.filter(|entry| entry.status() != discovery::Status::Critical).count()
        };
        self.catalog.services().iter().map(|service| (service.name.clone(), usable(service))).collect()
    }

    /// Looks after the message under way, or starts the next one.
    async fn send(&mut self) {
        if self.sending.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(sent) = self.sending.take()
        {
            match sent.await {
                Ok(message) => self.note(&message).await,
                Err(error) => tracing::error!(error = %service_kit::chain(&error), "an alert was not sent"),
            }
        }
        if self.sending.is_some() || !self.office.is_held() {
            return;
        }
        if let Some(message) = self.watchlist.due(Instant::now())
            && self.office.confirm().await
        {
            tracing::warn!(summary = message.subject(), "telling people");
            let post = self.post.clone();
            self.sending = Some(tokio::spawn(async move { post.deliver(message).await }));
        }
    }

    /// Writes down what was told, for ourselves and for who comes after us.
    async fn note(&mut self, message: &Message) {
        self.watchlist.told(message);
        self.metrics.messages.inc();
        for news in &message.news {
            let kind = if news.is_down { Kind::Down } else { Kind::Recovered };
            self.metrics.told.get_or_create(&KindLabel { kind }).inc();
        }
        self.office.write_down(&self.watchlist.told_down()).await;
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}
