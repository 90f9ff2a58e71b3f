//! Sends the webhook's receiver what becomes of messages ([`crate::outbox::store::events`]).
//!
//! An event is sent with POST until the receiver answers with 2xx, at least once: a killed instance, or an answer that
//! is lost, makes it come twice with the same `webhook-id`. Events may come in another order than they happened in;
//! each has its time. Several instances share the work, because each claims what it sends.
//!
//! *A receiver that is away* gets one event at a time, after a pause that doubles to a minute, until it takes one. Each
//! event has a schedule of its own beside that ([`WebhookOptions`]), and is given up after `--webhook-retry-for`. Mail
//! does not wait for any of this.

pub mod options;
pub mod signature;

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Request, header},
};
use futures::future::join_all;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use service_kit::{
    backoff::Backoff,
    client::{ClientTls, HttpClient},
    time::UnixMillis,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::outbox::{
    Outbox,
    store::events::{Event, EventOutcome},
    workers::retry_schedule::Schedule,
};

pub use options::WebhookOptions;
use signature::Signer;

/// How often the outbox is polled for events.
const POLL: Duration = Duration::from_millis(500);
/// Events that are sent concurrently.
const TOGETHER: usize = 16;
/// How long the receiver may take for an event. With writing down how that ended it is shorter than a claim.
const DEADLINE: Duration = Duration::from_secs(15);
/// How much of an answer is read; nothing in it is needed.
const ANSWER_MAX_BYTES: usize = 1024;
/// How long the receiver is left alone when it takes nothing: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest wait that a receiver may ask for.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(3600);
/// How often it is looked whether too many events wait.
const COUNTED_EVERY: Duration = Duration::from_secs(5);

/// `mail_webhook_events_total{outcome}` and `mail_webhook_events_waiting`.
#[derive(Debug, Clone, Default)]
pub struct WebhookMetrics {
    events: Family<OutcomeLabel, Counter>,
    waiting: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Sends events to the receiver.
#[derive(Debug)]
pub struct Webhook {
    outbox: Outbox,
    receiver: Url,
    options: WebhookOptions,
    signer: Signer,
    client: HttpClient,
    metrics: WebhookMetrics,
}

// === impl WebhookMetrics ===

impl WebhookMetrics {
    /// Registers them. An outcome is `taken`, `not_taken` (it is sent again), `given_up` or `dropped`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("mail_webhook_events", "Webhook events by how sending them ended", metrics.events.clone());
        registry.register(
            "mail_webhook_events_waiting",
            "Webhook events that wait to be sent",
            metrics.waiting.clone(),
        );
        metrics
    }

    fn count(&self, outcome: &'static str, events: u64) {
        self.events.get_or_create(&OutcomeLabel { outcome }).inc_by(events);
    }
}

// === impl Webhook ===

impl Webhook {
    /// The one that is configured, if any.
    ///
    /// # Errors
    /// Says what to change.
    pub fn new(outbox: Outbox, options: WebhookOptions, metrics: WebhookMetrics) -> Result<Option<Self>, String> {
        let Some(receiver) = options.receiver()? else { return Ok(None) };
        let signer = options.signer()?;
        let tls = ClientTls { ca_file: options.ca_file.clone(), identity: None };
        let client = HttpClient::checked(&tls, options::check)
            .map_err(|error| format!("--webhook-ca-file (MAIL_WEBHOOK_CA_FILE): {error}"))?;
        Ok(Some(Self { outbox, receiver, options, signer, client, metrics }))
    }

    /// Works until `shutdown`. Events under way are sent again by the next process.
    pub async fn run(self, shutdown: CancellationToken) {
        let working = async { tokio::join!(self.send_all(), self.bound()) };
        shutdown.run_until_cancelled(working).await;
    }

    async fn send_all(&self) {
        let mut signer = self.signer.clone();
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            let count = if backoff.failures() == 0 { TOGETHER } else { 1 };
            // What is wrong with the outbox, the dispatcher says.
            let events = self.outbox.next_events(count).await.unwrap_or_default();
            if events.is_empty() {
                sleep(POLL).await;
                continue;
            }
            self.renew(&mut signer);
            let outcomes = join_all(events.iter().map(|event| self.send(event, &signer))).await;
            let is_away = outcomes.iter().all(|outcome| matches!(outcome, EventOutcome::Retry(_)));
            let outcomes = events.into_iter().map(|event| event.id).zip(outcomes).collect();
            if let Err(error) = self.outbox.settle_events(outcomes).await {
                tracing::warn!(error = %service_kit::chain(&error), "outcomes of webhook events could not be recorded; the events are sent again");
            }
            if !is_away {
                backoff.reset();
                continue;
            }
            if backoff.failures() == 0 {
                tracing::warn!("the webhook's receiver takes no events; retrying");
            }
            sleep(backoff.next_wait()).await;
        }
    }

    /// A file that has become useless changes nothing.
    fn renew(&self, signer: &mut Signer) {
        match self.options.signer() {
            Ok(renewed) => *signer = renewed,
            Err(error) => {
                tracing::warn!(error, "the webhook's secret cannot be read; events are signed with the previous one")
            }
        }
    }

    async fn send(&self, event: &Event, signer: &Signer) -> EventOutcome {
        let (status, asked) = match self.client.send(self.request(event, signer), DEADLINE, ANSWER_MAX_BYTES).await {
            Ok(answer) if answer.status.is_success() => {
                self.metrics.count("taken", 1);
                return EventOutcome::Done;
            }
            Ok(answer) => (answer.status.to_string(), retry_after(&answer.headers)),
            Err(error) => (service_kit::chain(&error).to_string(), None),
        };
        let now = UnixMillis::now();
        if now.since(event.created) >= self.options.retry_for {
            self.metrics.count("given_up", 1);
            tracing::warn!(
                event = event.id,
                answer = status,
                "dropped a webhook event that was not taken for too long"
            );
            return EventOutcome::Done;
        }
        self.metrics.count("not_taken", 1);
        tracing::debug!(event = event.id, answer = status, "a webhook event was not taken; retrying");
        let attempts = event.attempts.saturating_add(1);
        EventOutcome::Retry(now + wait(self.options.schedule(), attempts, asked))
    }

    fn request(&self, event: &Event, signer: &Signer) -> Request<Bytes> {
        let timestamp = UnixMillis::now().0 / 1000;
        let signature = signer.sign(&event.id, timestamp, &event.body);
        let mut request = Request::post(self.receiver.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("muster-mail/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp)
            .body(Bytes::from(event.body.clone()))
            .expect("a URL that was parsed, and an id of ours");
        let signature = HeaderValue::try_from(signature).expect("base64");
        request.headers_mut().insert("webhook-signature", signature);
        request
    }

    /// Keeps what waits within the bound.
    async fn bound(&self) {
        let max = i64::from(self.options.waiting_max);
        loop {
            let started = Instant::now();
            let dropped = self.outbox.drop_events(max).await.unwrap_or(0);
            if dropped > 0 {
                self.metrics.count("dropped", u64::try_from(dropped).unwrap_or(0));
                tracing::warn!(dropped, max, "too many webhook events wait; the oldest are dropped");
            }
            if let Ok(waiting) = self.outbox.events_waiting().await {
                self.metrics.waiting.set(waiting);
            }
            sleep(COUNTED_EVERY.saturating_sub(started.elapsed())).await;
        }
    }
}

/// As the schedule says, or as long as the receiver asks for if that is longer.
fn wait(schedule: Schedule, attempts: u32, asked: Option<Duration>) -> Duration {
    let asked = asked.unwrap_or_default().min(ASKED_WAIT_MAX);
    schedule.wait(attempts, rand::random::<f64>()).max(asked)
}

/// `Retry-After` in seconds; a date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait_and_not_for_one_without_end() {
        let schedule = Schedule { first: Duration::from_secs(5), max: Duration::from_secs(3600) };
        assert!(wait(schedule, 1, None) <= Duration::from_secs(7));
        assert_eq!(wait(schedule, 1, Some(Duration::from_secs(120))), Duration::from_secs(120));
        assert_eq!(wait(schedule, 1, Some(Duration::from_secs(u64::MAX))), ASKED_WAIT_MAX);
        assert!(wait(schedule, 8, Some(Duration::from_secs(1))) > Duration::from_secs(400));
    }
}
