//! Which values of a policy make sense that say who may use a service. Every bound is in the documentation of its
//! field.

use std::{net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv4Net};

use super::{Auth, Basic, Cors, ForwardAuth, Jwt, LimitKey, Networks, Policy, RateLimit, Require, ranges::check_token};
use crate::{FieldError, ServiceName, field_error::quoted};

// === impl Policy ===

impl Policy {
    pub(super) fn check_access(&self) -> Result<(), FieldError> {
        self.auth.as_ref().map_or(Ok(()), Auth::check)?;
        at_most("rate_limit", self.rate_limit.len(), RateLimit::MAX)?;
        self.rate_limit.iter().try_for_each(RateLimit::check)?;
        self.in_flight_per_client.map_or(Ok(()), |max| in_range("in_flight_per_client", max))?;
        self.cors.check()
    }
}

// === impl Cors ===

impl Cors {
    fn check(&self) -> Result<(), FieldError> {
        let lists = [
            ("cors.methods", &self.methods, Self::METHODS_MAX),
            ("cors.headers", &self.headers, Self::ORIGINS_MAX),
            ("cors.expose", &self.expose, Self::ORIGINS_MAX),
        ];
        for (path, names, max) in lists {
            at_most(path, names.len(), max)?;
            names.iter().try_for_each(|name| check_token(path, name))?;
        }
        if self.credentials && self.origins.iter().any(|origin| origin == "*") {
            let reason = "cannot go with the origin \"*\": every site could act for its readers; name the origins";
            return Err(FieldError::new("cors.credentials", reason));
        }
        if self.max_age > Duration::from_secs(86_400) {
            return Err(FieldError::new("cors.max_age", "is out of range; give 0s to 1day"));
        }
        Ok(())
    }
}

// === impl RateLimit ===

impl RateLimit {
    fn check(&self) -> Result<(), FieldError> {
        in_range("rate_limit.requests", self.requests)?;
        self.burst.map_or(Ok(()), |burst| in_range("rate_limit.burst", burst))?;
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.window) {
            return Err(FieldError::new("rate_limit.window", "is out of range; give 1s to 1day"));
        }
        match &self.key {
            LimitKey::Header(name) => check_token("rate_limit.key.header", name),
            LimitKey::Claim(name) if (1..=64).contains(&name.len()) => Ok(()),
            LimitKey::Claim(_) => Err(FieldError::new("rate_limit.key.claim", "is no name; give 1 to 64 bytes")),
            LimitKey::Client | LimitKey::Identity => Ok(()),
        }
    }
}

fn in_range(path: &'static str, number: u32) -> Result<(), FieldError> {
    if (1..=1_000_000).contains(&number) {
        return Ok(());
    }
    Err(FieldError::new(path, format!("{number} is out of range; give 1 to 1000000")))
}

// === impl Auth ===

impl Auth {
    fn check(&self) -> Result<(), FieldError> {
        at_most("auth.public_paths", self.public_paths.len(), Self::PUBLIC_PATHS_MAX)?;
        self.public_paths.iter().try_for_each(|path| check_public_path(path))?;
        self.networks.as_ref().map_or(Ok(()), Networks::check)?;
        self.keys.as_ref().map_or(Ok(()), |keys| check_key_field(&keys.header))?;
        self.jwt.as_ref().map_or(Ok(()), Jwt::check)?;
        self.basic.as_ref().map_or(Ok(()), Basic::check)?;
        self.forward.as_ref().map_or(Ok(()), ForwardAuth::check)?;
        self.check_require()
    }

    /// One field cannot hold two credentials.
    fn check_require(&self) -> Result<(), FieldError> {
        let has_key = self.keys.as_ref().is_some_and(|keys| keys.header.eq_ignore_ascii_case("authorization"));
        let in_authorization = [has_key, self.jwt.is_some(), self.basic.is_some()];
        if self.require == Require::All && in_authorization.into_iter().filter(|is_there| *is_there).count() > 1 {
            let reason = "cannot be \"all\": two of the ways in use the field Authorization; give keys another header";
            return Err(FieldError::new("auth.require", reason));
        }
        Ok(())
    }
}

// === impl Networks ===

impl Networks {
    fn check(&self) -> Result<(), FieldError> {
        for (path, list) in [("auth.networks.allow", &self.allow), ("auth.networks.deny", &self.deny)] {
            at_most(path, list.len(), Self::MAX)?;
            if let Some(text) = list.iter().find(|text| Self::read(text).is_none()) {
                let reason =
                    format!("{} is no network; give an address, or one with its bits, 10.0.0.0/8", quoted(text));
                return Err(FieldError::new(path, reason));
            }
        }
        Ok(())
    }

    /// The network that `text` means; an address is a network of one. Clients are compared by their IPv4 address where
    /// they have one, so a network of mapped addresses is the IPv4 network, and one that has others as well is none.
    #[must_use]
    pub fn read(text: &str) -> Option<IpNet> {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse().ok().or_else(address)?;
        let IpAddr::V6(start) = network.addr() else { return Some(network) };
        let Some(mapped) = start.to_ipv4_mapped() else { return Some(network) };
        Ipv4Net::new(mapped, network.prefix_len().checked_sub(96)?).ok().map(IpNet::from)
    }
}

/// The field of a key: none that the gateway reads or writes itself. It ends there, so that of `Content-Length` nothing
/// would be left to say where a body ends.
fn check_key_field(name: &str) -> Result<(), FieldError> {
    const PATH: &str = "auth.keys.header";
    check_token(PATH, name)?;
    if !is_of_gateway(name) && !name.contains('_') {
        return Ok(());
    }
    Err(FieldError::new(PATH, format!("{} is no field for this; give authorization or x-api-key", quoted(name))))
}

/// Whether the gateway reads, writes or ends such a field itself; whatever signs the name has, because some servers read
/// them all alike.
fn is_of_gateway(name: &str) -> bool {
    const NAMES: [&str; 21] = [
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-auth-method",
        "x-auth-subject",
        "x-host",
        "x-original-url",
        "x-real-ip",
        "x-request-id",
        "x-rewrite-url",
        "x-script-name",
    ];
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    NAMES.contains(&name.as_str()) || ["proxy-", "x-forwarded"].iter().any(|start| name.starts_with(start))
}

// === impl Jwt ===

impl Jwt {
    fn check(&self) -> Result<(), FieldError> {
        if !(1..=512).contains(&self.issuer.len()) {
            return Err(FieldError::new("auth.jwt.issuer", "is empty or too long; give what iss says in the tokens"));
        }
        at_most("auth.jwt.audiences", self.audiences.len(), Self::LIST_MAX)?;
        at_most("auth.jwt.scopes", self.scopes.len(), Self::LIST_MAX)?;
        at_most("auth.jwt.claims", self.claims.len(), Self::LIST_MAX)?;
        let is_scope = |scope: &str| {
            !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
        };
        if let Some(scope) = self.scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(FieldError::new(
                "auth.jwt.scopes",
                format!("{} is no scope (RFC 6749, section 3.3)", quoted(scope)),
            ));
        }
        self.claims.keys().try_for_each(|field| check_identity_field("auth.jwt.claims", field))?;
        if self.leeway > Duration::from_secs(300) {
            return Err(FieldError::new("auth.jwt.leeway", "is out of range; give 0s to 5m"));
        }
        match (&self.jwks_url, &self.jwks_file) {
            (Some(url), None) if is_fetched(url) => Ok(()),
            (Some(_), None) => {
                let reason = "is no address to be asked; give http:// or https://, a host and a path, without a user";
                Err(FieldError::new("auth.jwt.jwks_url", reason))
            }
            (None, Some(file)) if file.starts_with('/') && file.len() <= 4096 => Ok(()),
            (None, Some(_)) => Err(FieldError::new("auth.jwt.jwks_file", "is no whole path; begin it with '/'")),
            (Some(_), Some(_)) | (None, None) => {
                Err(FieldError::new("auth.jwt.jwks_url", "give either jwks_url or jwks_file, and not both"))
            }
        }
    }
}

/// Whether a client can ask there, with nothing secret in what is logged.
fn is_fetched(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let has_host =
        |rest: &str| rest.split(['/', '?']).next().is_some_and(|host| !host.is_empty() && !host.contains('@'));
    rest.is_some_and(has_host) && url.len() <= 2048 && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// A field that says who the client is: `x-…`, and none that the gateway writes or ends for another reason.
pub(super) fn check_identity_field(path: &'static str, name: &str) -> Result<(), FieldError> {
    check_token(path, name)?;
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("x-") && !is_of_gateway(name) && !lower.contains('_') {
        return Ok(());
    }
    Err(FieldError::new(path, format!("{} is no field for this; give a name that begins with x-auth-", quoted(name))))
}

// === impl ForwardAuth ===

impl ForwardAuth {
    fn check(&self) -> Result<(), FieldError> {
        self.service.parse::<ServiceName>().map_err(|error| error.under("auth.forward.service"))?;
        let is_path = self.path.starts_with('/')
            && self.path.len() <= 2048
            && self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_path {
            return Err(FieldError::new("auth.forward.path", "is no path; begin it with '/'"));
        }
        at_most("auth.forward.pass", self.pass.len(), Self::PASS_MAX)?;
        self.pass.iter().try_for_each(|name| {
            let lower = name.to_ascii_lowercase();
            match lower == "authorization" || (lower.starts_with("remote-") && !lower.contains('_')) {
                true => check_token("auth.forward.pass", name),
                false => check_identity_field("auth.forward.pass", name),
            }
        })
    }
}

// === impl Basic ===

impl Basic {
    /// Most names.
    pub const USERS_MAX: usize = 256;

    fn check(&self) -> Result<(), FieldError> {
        let path = "auth.basic.users";
        if !(1..=Self::USERS_MAX).contains(&self.users.len()) {
            return Err(FieldError::new(path, format!("are {}; give 1 to {}", self.users.len(), Self::USERS_MAX)));
        }
        let is_name =
            |name: &str| (1..=64).contains(&name.len()) && !name.contains(|c: char| c == ':' || c.is_control());
        for (name, hash) in &self.users {
            if !is_name(name) {
                return Err(FieldError::new(
                    path,
                    format!("{} is no name; it has 1 to 64 bytes and no colon", quoted(name)),
                ));
            }
            if !is_bcrypt(hash) {
                let reason = format!("{} has no bcrypt hash of cost 4 to 15; htpasswd -nB makes one", quoted(name));
                return Err(FieldError::new(path, reason));
            }
        }
        Ok(())
    }
}

/// `$2y$12$`, and 22 characters of salt and 31 of hash.
fn is_bcrypt(hash: &str) -> bool {
    let is_start = ["$2a$", "$2b$", "$2y$"].iter().any(|start| hash.starts_with(start));
    let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    let rest = hash.get(7..).unwrap_or_default();
    let is_rest = rest.len() == 53 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
    is_start && cost.is_some_and(|cost| (4..=15).contains(&cost)) && hash.as_bytes().get(6) == Some(&b'$') && is_rest
}

/// Refuses a list that is longer than it may be.
pub(super) fn at_most(path: &'static str, count: usize, max: usize) -> Result<(), FieldError> {
    if count <= max {
        return Ok(());
    }
    Err(FieldError::new(path, format!("are {count}; {max} are allowed")))
}

/// A path that is read in one way only, so that it can be compared with what comes.
fn check_public_path(path: &str) -> Result<(), FieldError> {
    let plain = path.strip_suffix("/*").map_or(path, |start| if start.is_empty() { "/" } else { start });
    let has_dots = plain.split('/').any(|segment| matches!(segment, "." | ".."));
    let is_plain = plain.bytes().all(|byte| byte.is_ascii_graphic() && !b"%;\\?#*".contains(&byte));
    let is_fine = plain.starts_with('/') && !plain.contains("//") && !has_dots && is_plain;
    if is_fine && path.len() <= Auth::PATH_MAX_BYTES {
        return Ok(());
    }
    let reason = format!("{} is no plain path; give it as /healthz, or /static/* for all that is below", quoted(path));
    Err(FieldError::new("auth.public_paths", reason))
}
