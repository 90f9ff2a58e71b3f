use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_text;

/// Which instance gets a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with load_balancing")]
pub struct LoadBalancing {
    /// How it is chosen. Default `round_robin`.
    pub policy: Strategy,
    /// What requests are told apart by under [`Strategy::Hash`]; `null`, the default: nothing.
    pub hash_on: Option<HashOn>,
    /// A cookie that keeps a client at the instance that answered it first; `null`, the default: none. It goes before
    /// `policy`, for as long as that instance is in rotation.
    pub sticky: Option<Sticky>,
    /// How long the share of an instance that joins others grows from a tenth to the whole, so that it can warm up. 0
    /// s, the default (at once), to 1 h. When all instances are new, none is spared.
    #[serde(with = "duration_text")]
    pub slow_start: Duration,
    /// Whether a gateway that was told its zone prefers the instances in it. Default `true`. The more of them fail, the
    /// more requests go to the other zones.
    pub zone_preference: bool,
}

/// How an instance is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn, by weight. Even, predictable, the cheapest.
    #[default]
    RoundRobin,
    /// Of two drawn by weight, the one with fewer requests under way (the power of two choices; Mitzenmacher, 2001).
    /// For requests of very different cost.
    LeastRequest,
    /// Of two drawn by weight, the one that will probably answer sooner, judged by a moving average of its latency that
    /// jumps to peaks (Finagle's and linkerd's). For instances of very different speed.
    PeakEwma,
    /// Always the same one for the same [`HashOn`]; when instances come or go, few change. For caches.
    Hash,
}

/// What requests are told apart by: `{"header": "x-user"}`, `{"cookie": "session"}`, `"client_address"`. A request
/// without it goes to the instance whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The client's IP address.
    ClientAddress,
}

/// A cookie that keeps a client at an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"cookie\": \"instance\", \"max_age\": \"1h\"}")]
pub struct Sticky {
    /// Its name: 1 to 64 characters of a token (RFC 6265, section 4.1.1).
    pub cookie: String,
    /// How long the client keeps it. 1 s to 400 d; absent or `null`: until the browser is closed.
    #[serde(default, with = "duration_text::optional")]
    pub max_age: Option<Duration>,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        let policy = Strategy::default();
        Self { policy, hash_on: None, sticky: None, slow_start: Duration::ZERO, zone_preference: true }
    }
}

impl Strategy {
    /// The word for JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::PeakEwma => "peak_ewma",
            Self::Hash => "hash",
        }
    }
}
