use serde::{Deserialize, Serialize};

/// Who may use a service through the gateway. Absent, the default: every client that reaches the gateway.
///
/// Each way in that is named here is asked for; [`require`](Self::require) says whether one is enough. What no way in lets
/// pass is refused, and so is everything when none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object, as {\"networks\": {\"allow\": [\"10.0.0.0/8\"]}}")]
pub struct Auth {
    /// Whether one of the ways in is enough. Default `any`.
    pub require: Require,
    /// Paths that need none of them, as the instance sees them: `/healthz` is this path, `/static/*` is everything below it. At
    /// most 64. Only a path that can be read in one way is compared: one with `%`, `;`, `\`, `//` or a segment of dots is public
    /// never, and upper case is not lower case, so that no spelling of another path passes for a public one.
    pub public_paths: Vec<String>,
    /// Where clients may be.
    pub networks: Option<Networks>,
    /// API keys (`muster key new`).
    pub keys: Option<Keys>,
    /// Whether the instance gets the credential that let the client in: the field is taken away otherwise, because what has
    /// been judged is of no more use and a secret less is a secret less. Default `false`.
    pub keep_credentials: bool,
}

/// API keys, which are made and revoked with `muster key` and stand in etcd as hashes; each opens the services that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object, as {\"header\": \"x-api-key\"}")]
pub struct Keys {
    /// The field with the key. Default `authorization`, where it follows the word `Bearer`; in another one, `x-api-key`, it stands
    /// alone.
    pub header: String,
}

/// Whether one way in is enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// One is enough.
    #[default]
    Any,
    /// All that are named must let the client in.
    All,
}

/// Where clients may be: addresses and networks, as `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`.
///
/// The client is who is connected to the gateway; behind a proxy that the gateway trusts it is who that proxy says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object, as {\"allow\": [\"10.0.0.0/8\"]}")]
pub struct Networks {
    /// A client in one of these is let in. At most 256. Empty, the default: being somewhere lets no client in.
    pub allow: Vec<String>,
    /// A client in one of these is refused, whatever else it has. At most 256. Default: none.
    pub deny: Vec<String>,
}

// === impl Auth ===

impl Auth {
    /// Most public paths.
    pub const PUBLIC_PATHS_MAX: usize = 64;
    /// Most bytes of one.
    pub const PATH_MAX_BYTES: usize = 256;
}

// === impl Keys ===

impl Default for Keys {
    fn default() -> Self {
        Self { header: "authorization".to_owned() }
    }
}

// === impl Networks ===

impl Networks {
    /// Most networks of a list.
    pub const MAX: usize = 256;
}
