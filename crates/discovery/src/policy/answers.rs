use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::duration_text;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"origins\": [\"https://app.example\"]}")]
pub struct Cors {
    /// The origins whose pages may read the answers, as `https://app.example`; `*`: all. At most 64. Default: none.
    pub origins: Vec<String>,
    /// Which answers. Default `own_answers`.
    pub applies_to: CorsScope,
    /// The methods that pages may use beside GET, HEAD and POST, which need no leave. At most 16. Default: none.
    pub methods: Vec<String>,
    /// The fields that pages may send; `*`: any but `Authorization`. At most 64. Default: none.
    pub headers: Vec<String>,
    /// The fields of answers that pages may read beside the usual ones. At most 64. Default: none.
    pub expose: Vec<String>,
    /// Whether pages may send cookies and passwords; not together with the origin `*`. Default `false`.
    pub credentials: bool,
    /// How long a browser may keep what it was allowed. 0 s to 24 h, default 10 min.
    #[serde(with = "duration_text")]
    pub max_age: Duration,
}

/// Whose answers pages of other sites may read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorsScope {
    /// Those that the gateway gives itself; what the service allows, it says itself.
    #[default]
    OwnAnswers,
    /// Those of the service as well: the gateway answers preflights, whether or not an instance is up, and what instances say about
    /// CORS is replaced.
    Service,
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

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            applies_to: CorsScope::default(),
            methods: Vec::new(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: Duration::from_secs(600),
        }
    }
}

impl Cors {
    /// Most origins.
    pub const ORIGINS_MAX: usize = 64;
    /// Most methods.
    pub const METHODS_MAX: usize = 16;
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
