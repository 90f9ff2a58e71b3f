use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What becomes of the prefix `/SERVICE`, which the gateway cuts off the paths of requests, in the answers to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"restore\": \"auto\"}")]
pub struct Prefix {
    /// Whether the paths in `Location`, `Content-Location`, `Refresh` and `Set-Cookie` get it back. Default `auto`.
    pub restore: Restore,
    /// Whether a browser that asks for `/SERVICE` is sent to `/SERVICE/`, so that relative links lead into the service.
    /// Default `true`.
    pub slash: bool,
}

/// Which paths of an answer get the prefix back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restore {
    /// Those that do not begin with it already, of instances that do not
    /// [honour](crate::Instance::honours_forwarded_prefix) `X-Forwarded-Prefix`.
    #[default]
    Auto,
    /// All, also those that begin with it: for a service that has a path of its own name and ignores
    /// `X-Forwarded-Prefix`.
    Always,
    /// None.
    Never,
}

/// What pages of other sites may read (CORS; Fetch, section 3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"origins\": [\"https://app.example\"]}")]
pub struct Cors {
    /// The origins whose pages may read the answers that the gateway itself gives, as `https://app.example`; `*`: all.
    /// At most 64. Default: none.
    pub origins: Vec<String>,
}

/// The gateway's own answers to requests that no instance has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"details\": \"full\"}")]
pub struct Errors {
    /// How much they tell. Default `reason`.
    pub details: Details,
}

/// How much an error tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Details {
    /// What is down, since when, and why.
    #[default]
    Reason,
    /// That, and the addresses of the instances: for clients that may know them.
    Full,
}

// === impl Prefix ===

impl Default for Prefix {
    fn default() -> Self {
        Self { restore: Restore::default(), slash: true }
    }
}

// === impl Cors ===

impl Cors {
    /// Most origins.
    pub const ORIGINS_MAX: usize = 64;
    /// Most bytes of an origin.
    pub const ORIGIN_MAX_BYTES: usize = 256;
}

// === impl Details ===

impl FromStr for Details {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reason" => Ok(Self::Reason),
            "full" => Ok(Self::Full),
            other => Err(format!("{other:?} is neither reason nor full")),
        }
    }
}
