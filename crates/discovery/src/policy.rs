//! What the gateway does for one service: `config/<service>` in etcd, as JSON.
//!
//! ```json
//! { "load_balancing": { "policy": "least_request", "slow_start": "30s" }, "timeouts": { "response": "5s" } }
//! ```
//!
//! A document says only what differs; everything else is the gateway's default, which is a whole [`Policy`]:
//!
//! | section | what it settles |
//! |---|---|
//! | [`load_balancing`](LoadBalancing) | which instance gets a request |
//! | [`timeouts`](Timeouts), [`retries`](Retries), [`hedge`](Hedge) | how long an attempt may take, and when there is another |
//! | [`health`](Health) | who is left alone for a while, by probes and by traffic |
//! | [`breaker`](Breaker), [`limits`](Limits) | how much at the same time, and how large |
//! | [`auth`](Auth), [`rate_limit`](RateLimit), `in_flight_per_client` | who may use the service, and how much |
//! | [`prefix`](Prefix), [`cors`](Cors), [`errors`](Errors) | what clients of the service read beside what it answers |
//!
//! Readers are strict here, unlike those of instances: an unknown field or a value out of range is an error that names
//! its place in the document (`health.active.interval`) and says what to change. A policy that is half understood would
//! be worse than the one before. Durations are text with a unit, `"2s"`, `"1m 30s"`, `"250ms"`.

mod access_ranges;
mod answers;
mod auth;
mod document;
mod duration_text;
mod health;
mod load_balancing;
mod ranges;
mod rate_limit;
mod retries;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use answers::{Cors, CorsScope, Details, Errors, Prefix, Restore};
pub use auth::{Auth, Basic, ForwardAuth, Jwt, Keys, Networks, Require};
pub use document::PolicyDocument;
pub use health::{Active, ActiveKind, Health, Passive};
pub use load_balancing::{HashOn, LoadBalancing, Sticky, Strategy};
pub use rate_limit::{LimitKey, LimitScope, RateLimit};
pub use retries::{IdempotencyKeys, Retries};

/// Everything that can be said about how the gateway treats a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the sections of a policy")]
pub struct Policy {
    /// Which instance gets a request.
    pub load_balancing: LoadBalancing,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Trying again on another instance.
    pub retries: Retries,
    /// Asking a second instance when the first is slow; `null`, the default: only when the first was found dead.
    pub hedge: Option<Hedge>,
    /// Who is left alone for a while.
    pub health: Health,
    /// How many requests at the same time.
    pub breaker: Breaker,
    /// How large things may be.
    pub limits: Limits,
    /// Who may use the service; `null`, the default: every client that reaches the gateway.
    pub auth: Option<Auth>,
    /// How often one client may ask; all of them hold. At most [`RateLimit::MAX`]; default: none.
    pub rate_limit: Vec<RateLimit>,
    /// How many requests one client, an IPv4 address or an IPv6 /64, may have under way at one gateway; a tunnel is one for as long
    /// as it lasts. 1 to 1,000,000; `null`, the default: no bound.
    pub in_flight_per_client: Option<u32>,
    /// What becomes of the prefix that is cut off the paths.
    pub prefix: Prefix,
    /// What pages of other sites may read.
    pub cors: Cors,
    /// The gateway's own answers.
    pub errors: Errors,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with timeouts")]
pub struct Timeouts {
    /// To open a connection to an instance. 1 ms to 1 min, default 1 s.
    #[serde(with = "duration_text")]
    pub connect: Duration,
    /// For one attempt of a safe method (GET, HEAD, OPTIONS), until the head of the response; then another instance is
    /// asked. Other methods have no such limit, because the first attempt may still be carried out. 1 ms to 1 h;
    /// `null`, the default: as long as `response`.
    #[serde(with = "duration_text::optional")]
    pub per_try: Option<Duration>,
    /// For all attempts together, until the head of the response. 1 ms to 1 h, default 30 s.
    #[serde(with = "duration_text")]
    pub response: Duration,
    /// Without a byte in either direction once the response has begun. 1 ms to 24 h, default 5 min.
    #[serde(with = "duration_text")]
    pub stream_idle: Duration,
}

/// Asking a second instance when the first is slow (Dean and Barroso, "The Tail at Scale", 2013). Only for safe
/// methods: GET, HEAD and OPTIONS (RFC 9110, section 9.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"after\": \"100ms\"}")]
pub struct Hedge {
    /// How long the first may be silent. 1 ms to 1 min; about the 95th percentile of the service's latency is usual.
    #[serde(with = "duration_text")]
    pub after: Duration,
}

/// How many requests at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the limits of the circuit breaker")]
pub struct Breaker {
    /// Requests that wait for an answer of one instance; further ones go to another. 1 to 1,000,000, default 1024, as
    /// Envoy has it.
    pub in_flight_max: u32,
    /// Tunnels (WebSocket) and event streams of one instance, which do not count as requests once their head is out;
    /// further ones get 503. 0 (none) to 1,000,000, default 10,000: what a gateway has connections for by default.
    pub streams_max: u32,
    /// Requests that wait for an instance when all have so many. 0 (none waits) to 1,000,000, default 1024.
    pub queue_max: u32,
    /// How long they wait before they get 503. 0 s to 1 min, default 1 s.
    #[serde(with = "duration_text")]
    pub queue_timeout: Duration,
}

/// How large things may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with limits")]
pub struct Limits {
    /// Largest body of a request (413), in bytes; `null`, the default: as the gateway's flag `--body-max-bytes` says.
    pub body_max_bytes: Option<u64>,
}

// === defaults ===

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            per_try: None,
            response: Duration::from_secs(30),
            stream_idle: Duration::from_secs(300),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { in_flight_max: 1024, streams_max: 10_000, queue_max: 1024, queue_timeout: Duration::from_secs(1) }
    }
}
