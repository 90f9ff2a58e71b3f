//! `GET /v1/watch?service=mail`: what happens to one service, as server-sent events.
//!
//! ```text
//! event: reset            everything: {"revision":12,"instances":[…]}
//! event: add              one instance is new or different
//! event: remove           one instance is gone, and why
//! : age_ms 320            nothing happened for a while; etcd last spoke so long ago
//! ```
//!
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>.) The last event of everything that happened at once
//! carries an `id`, the service's index. A client that comes back with it as `Last-Event-ID` (a browser's `EventSource`
//! does so by itself), at this replica or another, gets what it missed; if that can no longer be told, a reset.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{Sse, sse::Event},
};
use discovery::{Revision, ServiceName};
use futures::{Stream, stream::unfold};
use serde::Serialize;
use serde_json::json;
use service_kit::Problem;
use tokio::time::timeout;

use super::{
    Api,
    listing::{InstanceEntry, TombstoneEntry},
    query::{Pairs, unknown},
    waiting::{Place, loaded},
};
use crate::{
    catalog::{Catalog, Delta, Entry, Subscription, Topic},
    error,
};

/// How long the stream stays silent at most. A client, a proxy, or the kernel then notices that the other end is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a client should wait before it comes back, in case the stream ends.
const RETRY: Duration = Duration::from_secs(1);

/// One client that follows one service. Dropped when the client goes away, and with it all that it holds.
struct Follower {
    catalog: Catalog,
    service: ServiceName,
    subscription: Subscription,
    place: Place,
    /// The index up to which everything was sent; `None`: nothing was.
    sent: Option<Revision>,
    queue: VecDeque<Event>,
}

pub(super) async fn watch(
    State(api): State<Api>,
    Pairs(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let mut service = None;
    for (name, value) in &pairs {
        match name.as_str() {
            "service" => service = Some(value.parse::<ServiceName>().map_err(error::field)?),
            _ => return Err(unknown(name, "service")),
        }
    }
    let Some(service) = service else { return Err(Problem::field("service", "is missing; write ?service=NAME")) };
    loaded(&api.catalog)?;
    let place = api.waiting.enter()?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok()).map(Revision);
    let subscription = api.catalog.subscribe(Topic::Service(service.clone()));
    let queue = VecDeque::from([Event::default().retry(RETRY).comment("following")]);
    let follower = Follower { catalog: api.catalog, service, subscription, place, sent: seen, queue };
    Ok(Sse::new(unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    })))
}

// === impl Follower ===

impl Follower {
    /// The next event; `None` when the registry ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            self.look();
            if !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                woken = timeout(HEARTBEAT, self.subscription.rung()) => if woken.is_err() {
                    return Some(self.heartbeat());
                },
                () = self.place.closed() => return None,
            }
        }
    }

    /// Queues what has happened since it last looked.
    fn look(&mut self) {
        let (index, view) = self.catalog.read(&self.service);
        if self.sent == Some(index) {
            return;
        }
        let seen = self.sent.replace(index);
        let delta = seen.and_then(|seen| view.as_ref()?.since(seen));
        let mut events = match &delta {
            Some(delta) => changes(delta),
            None => vec![reset(index, view.as_ref().map(|view| &*view.instances).unwrap_or_default())],
        };
        if let Some(last) = events.pop() {
            events.push(last.id(index.0.to_string()));
        }
        self.queue.extend(events);
    }

    fn heartbeat(&self) -> Event {
        let age =
            self.catalog.age().map_or_else(|error| error.to_string(), |age| format!("age_ms {}", age.as_millis()));
        Event::default().comment(age)
    }
}

fn changes(Delta { changed, removed }: &Delta) -> Vec<Event> {
    let removed = removed.iter().map(|tombstone| event("remove", &TombstoneEntry::from(tombstone)));
    let changed = changed.iter().map(|entry| event("add", &InstanceEntry::from(&**entry)));
    removed.chain(changed).collect()
}

fn reset(index: Revision, instances: &[Arc<Entry>]) -> Event {
    let instances: Vec<_> = instances.iter().map(|entry| InstanceEntry::from(&**entry)).collect();
    event("reset", &json!({ "revision": index.0, "instances": instances }))
}

fn event(name: &'static str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("structs of strings and numbers always become JSON")
}
