use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_text;
use crate::HealthPath;

/// Who is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with health")]
pub struct Health {
    /// By probes.
    pub active: Active,
    /// By traffic.
    pub passive: Passive,
    /// When more than so many percent of the instances are judged unhealthy, the judgements are disregarded: they are
    /// then more likely to be wrong than so many instances are to be dead, and the few left would be overrun. Envoy's
    /// "panic threshold". 0 (never) to 100, default 50.
    pub panic_threshold_percent: u32,
}

/// Probes. A probe opens a connection; over HTTP it also asks a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with active")]
pub struct Active {
    /// What is asked. Default `http`.
    pub kind: ActiveKind,
    /// What is asked for, of all instances; `null`, the default: of each what its own `health=` says, and of an
    /// instance that says nothing only whether it accepts a connection.
    pub path: Option<HealthPath>,
    /// From one probe of an instance to the next. 100 ms to 1 h, default 2 s.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// How long the answer may take. 10 ms to 1 min, default 1 s.
    #[serde(with = "duration_text")]
    pub timeout: Duration,
    /// So many good probes in a row take an instance back. 1 to 100, default 2.
    pub rise: u32,
    /// So many bad ones in a row take it out. 1 to 100, default 3.
    pub fall: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActiveKind {
    /// `GET path`: 2xx and 3xx are good. Without a path as [`ActiveKind::Tcp`].
    #[default]
    Http,
    /// Whether a connection is accepted.
    Tcp,
    /// Nothing: no instance is probed.
    Off,
}

/// What traffic teaches. A failed connect always takes an instance out: nothing was sent, so nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with passive")]
pub struct Passive {
    /// So many answers of 500 to 599 in a row, or answers that are not HTTP, take an instance out. 0 (never) to 255,
    /// default 5.
    pub consecutive_5xx: u32,
    /// So many requests in a row without an answer (no answer in time, a connection that broke) take an instance out.
    /// 0 (never) to 255, default 2.
    pub consecutive_failures: u32,
    /// How long the first time; doubled each time that it fails again when it comes back. 10 ms to 1 h, default 1 s.
    #[serde(with = "duration_text")]
    pub base_ejection: Duration,
    /// How long at most. Up to 24 h and not shorter than `base_ejection`, default 10 s.
    #[serde(with = "duration_text")]
    pub max_ejection: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { active: Active::default(), passive: Passive::default(), panic_threshold_percent: 50 }
    }
}

impl Default for Active {
    fn default() -> Self {
        Self {
            kind: ActiveKind::default(),
            path: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_failures: 2,
            base_ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(10),
        }
    }
}
