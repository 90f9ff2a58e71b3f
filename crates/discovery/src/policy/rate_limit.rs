use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_text;

/// How often a service may be asked, as `{"key": "client", "requests": 100, "window": "1s", "burst": 200}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"requests\": 100, \"window\": \"1s\"}")]
pub struct RateLimit {
    /// Of whom requests are counted together. Default `client`.
    #[serde(default)]
    pub key: LimitKey,
    /// How many in each window, in the long run. 1 to 1,000,000.
    pub requests: u32,
    /// 1 s, the default, to 24 h.
    #[serde(default = "RateLimit::default_window", with = "duration_text")]
    pub window: Duration,
    /// How many at once, after a pause. 1 to 1,000,000; `null`, the default: as many as `requests`.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Who counts. `gateway`, the default and the only one: each gateway for itself, so that three let three times as
    /// much through.
    #[serde(default)]
    pub per: LimitScope,
}

/// Of whom requests are counted together: `"client"`, `"identity"`, `{"claim": "org"}`, `{"header": "x-tenant"}`. A
/// request without it is counted by its client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKey {
    /// An IPv4 address, or an IPv6 /64, which is the least that one subscriber is given.
    #[default]
    Client,
    /// Who the client has shown to be: an API key, the subject of a token, a name.
    Identity,
    /// What a token says in this claim.
    Claim(String),
    /// What a request says in this field. Clients choose it, so it bounds only clients that want to be bounded, or a
    /// field that a proxy in front has set.
    Header(String),
}

/// Who counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// Each gateway for itself.
    #[default]
    Gateway,
}

// === impl RateLimit ===

impl RateLimit {
    /// Most limits of a service.
    pub const MAX: usize = 8;

    fn default_window() -> Duration {
        Duration::from_secs(1)
    }
}

// === impl LimitKey ===

impl LimitKey {
    /// The word for answers and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Identity => "identity",
            Self::Claim(_) => "claim",
            Self::Header(_) => "header",
        }
    }
}
