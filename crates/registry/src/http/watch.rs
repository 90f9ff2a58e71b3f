//! `GET /v1/watch?service=mail`: what happens to one service, as server-sent events.
//!
//! ```text
//! event: reset            everything: {"revision":12,"instances":[…]}
//! event: add              one instance is new or different
//! event: remove           one instance is gone, and why
//! : age_ms 320            nothing happened for a while; etcd last spoke so long ago
//! ```
//!
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>.) The last event of everything that happened at
//! once carries an `id`, the service's index. A client that comes back with it as `Last-Event-ID` (a browser's
//! `EventSource` does so by itself), at this replica or another, gets what it missed; if that can no longer be told, a
//! reset.
//!
//! A client that reads slowly misses nothing and is told less: what happens while it reads becomes one set of changes,
//! which is made when it has taken what was before. One that does not read at all loses its connection
//! ([`service_kit::serve`]).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use discovery::{Revision, ServiceName};
use futures::{FutureExt as _, stream::unfold};
use service_kit::{Problem, openapi::parameter};
use tokio::time::timeout;
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Type,
        path::{Parameter, ParameterIn},
    },
};

use super::{
    SharedApi,
    listing::TombstoneEntry,
    long_polls::{PollPermit, loaded},
    openapi::Usual,
    pieces::{Chunks, json, listed, to_json},
    query::{Pairs, unknown},
};
use crate::{
    admission::access::Right,
    catalog::Catalog,
    error,
    mirror::{Delta, Entry, Subscription, Tombstone, Topic},
};

/// How long the stream stays silent at most. A client, a proxy, or the kernel then notices that the other end is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a stream begins with: how long a client should wait before it comes back, in milliseconds, in case the stream
/// ends.
const BEGINNING: &[u8] = b"retry: 1000\n: following\n\n";

/// What is being sent, made while it is.
type Unsent = Box<dyn Iterator<Item = Bytes> + Send>;

/// One client that follows one service. Dropped when the client goes away, and with it all that it holds.
struct Follower {
    catalog: Catalog,
    service: ServiceName,
    subscription: Subscription,
    permit: PollPermit,
    /// The stream ends with it.
    right: Option<Right>,
    /// The index up to which everything was sent, or is in `unsent`; `None`: nothing was.
    sent: Option<Revision>,
    unsent: Unsent,
}

/// Where a client has been.
pub(super) struct LastEventId;

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        vec![parameter("Last-Event-ID", ParameterIn::Header, "Where an earlier stream broke off.", text)]
    }
}

/// What happens to one service, as server-sent events: reset, add, remove.
///
/// The last event of everything that happened at once has an `id`; sent back as `Last-Event-ID`, the stream goes on
/// behind it.
#[utoipa::path(get, path = "/v1/watch", operation_id = "watch", tag = "registry",
    params(("service" = ServiceName, Query, description = "The service."), LastEventId),
    responses((status = 200, description = "The answer.", body = String, content_type = "text/event-stream"), Usual))]
pub(super) async fn watch(
    State(api): State<SharedApi>,
    Pairs(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut service = None;
    for (name, value) in &pairs {
        match name.as_str() {
            "service" => service = Some(value.parse::<ServiceName>().map_err(error::field)?),
            _ => return Err(unknown(name, "service")),
        }
    }
    let Some(service) = service else { return Err(Problem::field("service", "is missing; write ?service=NAME")) };
    loaded(&api.catalog)?;
    let permit = api.long_polls.acquire()?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok()).map(Revision);
    let subscription = api.catalog.subscribe(Topic::Service(service.clone()));
    let unsent: Unsent = Box::new([Bytes::from_static(BEGINNING)].into_iter());
    let right = Right::current();
    let follower = Follower { catalog: api.catalog.clone(), service, subscription, permit, right, sent: seen, unsent };
    let body = Body::from_stream(unfold(follower, |mut follower| async move {
        let bytes = follower.next().await?;
        Some((Ok::<_, Infallible>(bytes), follower))
    }));
    let fields: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((fields, body).into_response())
}

// === impl Follower ===

impl Follower {
    /// What to send next; `None` when the registry ends, or the client's token was withdrawn: coming back, it is told
    /// so. Asked for only when the client has taken most of what was before.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if Right::lost(&mut self.right).now_or_never().is_some() {
                return None;
            }
            if let Some(bytes) = self.unsent.next() {
                return Some(bytes);
            }
            if self.look() {
                continue;
            }
            tokio::select! {
                _ = Right::lost(&mut self.right) => return None,
                woken = timeout(HEARTBEAT, self.subscription.changed()) => if woken.is_err() {
                    return Some(self.heartbeat());
                },
                () = self.permit.closed() => return None,
            }
        }
    }

    /// Whether anything has happened since it last looked, which is to be sent then.
    fn look(&mut self) -> bool {
        let (index, view) = self.catalog.read(&self.service);
        if self.sent == Some(index) {
            return false;
        }
        let seen = self.sent.replace(index);
        let delta = seen.and_then(|seen| view.as_ref()?.since(seen));
        self.unsent = match delta {
            Some(delta) => Box::new(Chunks::of(changes(delta, index))),
            None => Box::new(Chunks::of(reset(index, view.map(|view| view.instances.clone()).unwrap_or_default()))),
        };
        true
    }

    fn heartbeat(&self) -> Bytes {
        let age =
            self.catalog.age().map_or_else(|error| error.to_string(), |age| format!("age_ms {}", age.as_millis()));
        format!(": {age}\n\n").into()
    }
}

/// One of the things that have happened.
enum Happened {
    Removed(Tombstone),
    Changed(Arc<Entry>),
}

/// An event for each, of which the last has the id.
fn changes(Delta { changed, removed }: Delta, index: Revision) -> impl Iterator<Item = Bytes> {
    let last = (removed.len() + changed.len()).saturating_sub(1);
    let all = removed.into_iter().map(Happened::Removed).chain(changed.into_iter().map(Happened::Changed));
    all.enumerate().flat_map(move |(permit, one)| {
        let (name, data) = match one {
            Happened::Removed(tombstone) => ("remove", to_json(&TombstoneEntry::from(&tombstone)).into()),
            Happened::Changed(entry) => ("add", json(&entry)),
        };
        [begin(name), data, end((permit == last).then_some(index))]
    })
}

/// One event with everything.
fn reset(index: Revision, instances: Vec<Arc<Entry>>) -> impl Iterator<Item = Bytes> {
    let head = [begin("reset"), format!("{{\"revision\":{index},\"instances\":[").into()];
    head.into_iter().chain(listed(instances)).chain([Bytes::from_static(b"]}"), end(Some(index))])
}

fn begin(name: &str) -> Bytes {
    format!("event: {name}\ndata: ").into()
}

/// The end of the event's data, which JSON keeps on one line, and of the event.
fn end(id: Option<Revision>) -> Bytes {
    id.map_or_else(|| Bytes::from_static(b"\n\n"), |id| format!("\nid: {id}\n\n").into())
}
