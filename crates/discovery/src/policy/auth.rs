use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::duration_text;

/// Who may use a service through the gateway. Absent, the default: every client that reaches the gateway.
///
/// Each way in that is named here is asked for; [`require`](Self::require) says whether one is enough. What no way in
/// lets pass is refused, and so is everything when none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object, as {\"networks\": {\"allow\": [\"10.0.0.0/8\"]}}")]
pub struct Auth {
    /// Whether one of the ways in is enough. Default `any`.
    pub require: Require,
    /// Paths that need none of them, as the instance sees them: `/healthz` is this path, `/static/*` is everything
    /// below it. At most 64. Only a path that can be read in one way is compared: one with `%`, `;`, `\`, `//` or a
    /// segment of dots is public never, and upper case is not lower case, so that no spelling of another path passes
    /// for a public one.
    pub public_paths: Vec<String>,
    /// Where clients may be.
    pub networks: Option<Networks>,
    /// API keys (`muster key new`).
    pub keys: Option<Keys>,
    /// Tokens that an identity provider has signed.
    pub jwt: Option<Jwt>,
    /// Names and passwords.
    pub basic: Option<Basic>,
    /// A service that judges requests.
    pub forward: Option<ForwardAuth>,
    /// Whether the instance gets the credential that let the client in: the field is taken away otherwise, because what
    /// has been judged is of no more use and a secret less is a secret less. Default `false`.
    pub keep_credentials: bool,
}

/// Tokens that an identity provider has signed (JWT, RFC 7519), in `Authorization: Bearer TOKEN`.
///
/// The algorithm is the key's: RS256 to RS512, PS256 to PS512, ES256 to ES512, `EdDSA` with Ed25519, HS256 to HS512.
/// `exp` is needed, `nbf` is kept. Keys are named in exactly one of two ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object, as {\"issuer\": \"https://id.example\", \"audiences\": [\"mail\"], …}"
)]
pub struct Jwt {
    /// What `iss` must be, byte by byte. 1 to 512 bytes.
    pub issuer: String,
    /// One of these must be in `aud`. At most 16. Empty: `aud` is not looked at, which is right only when the issuer's
    /// tokens are for this service alone.
    pub audiences: Vec<String>,
    /// The issuer's keys (JSON Web Key Set) at this address, `http` or `https`, with no user in it. Read when the
    /// policy is new, then every five minutes, and for a key that is not known at most once a minute; no redirect is
    /// followed.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// The same in a file on the gateway's host, by its whole path; read again within a second when it changes. The
    /// place for secrets (`kty` `oct`).
    #[serde(default)]
    pub jwks_file: Option<String>,
    /// By how much the clocks of issuer and gateway may differ. 0 s to 5 min, default 30 s.
    #[serde(default = "Jwt::default_leeway", with = "duration_text")]
    pub leeway: Duration,
    /// Scopes that a token must have, all of them, in `scope` or `scp`; else 403. At most 16. Default: none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Claims that the instance is told: field → claim, as `{"x-auth-email": "email"}`. A field begins with `x-` and is
    /// one that no client can send to this service. At most 16. Default: none.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

/// Names and passwords (RFC 7617), for a handful of people or programs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"users\": {\"ann\": \"$2y$12$…\"}}")]
pub struct Basic {
    /// Name → bcrypt hash, as `htpasswd -nB NAME` prints it, of cost 4 to 15. 1 to 256 names of 1 to 64 bytes.
    pub users: BTreeMap<String, String>,
}

/// A service that judges requests.
///
/// It is asked about each one that no other way in lets pass, with a GET that has the fields of the request and no
/// body. 2xx lets the request through; 301, 302, 303, 307, 308, 401 and 403 are the client's answer; anything else, and
/// no answer, is 503 `auth_unavailable`. How long it may take is said by its own policy (`timeouts`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"service\": \"auth\", \"path\": \"/verify\"}")]
pub struct ForwardAuth {
    /// Its name; it is registered like any other service.
    pub service: String,
    /// The path, and maybe a query, that it is asked for. Default `/`.
    #[serde(default = "ForwardAuth::default_path")]
    pub path: String,
    /// The fields of its answer that the instance gets, and that no client can send: names that begin with `x-` or
    /// `remote-`, and `authorization`. The first of the list is the client's name, `X-Auth-Subject`. At most 16.
    /// Default: none.
    #[serde(default)]
    pub pass: Vec<String>,
}

/// API keys, which are made and revoked with `muster key` and stand in etcd as hashes; each opens the services that it
/// names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object, as {\"header\": \"x-api-key\"}")]
pub struct Keys {
    /// The field with the key. Default `authorization`, where it follows the word `Bearer`; in another one,
    /// `x-api-key`, it stands alone. None that the gateway reads or writes itself, as `host`.
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

/// Where clients may be: addresses and networks, as `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`. An IPv4 network that
/// is mapped into IPv6, `::ffff:10.0.0.0/104`, means the IPv4 network.
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

// === impl Basic ===

impl fmt::Debug for Basic {
    /// The names alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.users.keys()).finish()
    }
}

// === impl Keys ===

impl Default for Keys {
    fn default() -> Self {
        Self { header: "authorization".to_owned() }
    }
}

// === impl Jwt ===

impl Jwt {
    /// Most audiences, scopes, and claims.
    pub const LIST_MAX: usize = 16;

    fn default_leeway() -> Duration {
        Duration::from_secs(30)
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            jwks_url: None,
            jwks_file: None,
            leeway: Self::default_leeway(),
            scopes: Vec::new(),
            claims: BTreeMap::new(),
        }
    }
}

// === impl ForwardAuth ===

impl ForwardAuth {
    /// Most fields that are passed on.
    pub const PASS_MAX: usize = 16;

    fn default_path() -> String {
        "/".to_owned()
    }
}

// === impl Networks ===

impl Networks {
    /// Most networks of a list.
    pub const MAX: usize = 256;
}
