//! What a check is, as a table says it.
//!
//! | `type` | passes when | fields of its own |
//! |---|---|---|
//! | `tcp` | a connection is made | `address` |
//! | `http` | GET is answered with a status of `status` | `path`, `status`, `headers`, `address`, `ca` |
//! | `grpc` | `grpc.health.v1.Health/Check` says SERVING | `service`, `address`, `ca` |
//! | `command` | the program ends with 0 | `command` |
//!
//! Each has `interval` (2s), `timeout` (1s), `rise` (2) and `fall` (3); the defaults are HAProxy's. `address` is where
//! to connect to, if not where the instance listens. An https instance is asked over TLS; `ca` is a file with the
//! authorities to trust, if those of the system are not meant.

use std::{num::NonZeroU32, ops::RangeInclusive, path::PathBuf, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use discovery::{Address, HealthPath, Host, Instance, Scheme};
use serde_json::{Map, Value};

use super::fields::Fields;

/// From the beginning of one check to that of the next: 500 ms to 1 h, by default 2 s.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3600);

/// What takes longer fails: 50 ms to 60 s, by default 1 s.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);

/// Results in a row, by default 2 good or 3 bad ones; at most 100.
const RISE: NonZeroU32 = NonZeroU32::new(2).expect("it is not 0");
const FALL: NonZeroU32 = NonZeroU32::new(3).expect("it is not 0");
const STREAK_MAX: u32 = 100;

/// Arguments of a command, with its path.
const ARGUMENTS_MAX: usize = 64;

const FIELDS: &str = "type, interval, timeout, rise, fall, address (tcp, http, grpc), ca (http, grpc), path, status, \
                      headers (http), service (grpc) and command (command)";

/// One check of an instance.
#[derive(Debug, Clone)]
pub(super) struct Check {
    pub(super) probe: Probe,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: NonZeroU32,
    pub(super) fall: NonZeroU32,
}

/// What is done, and what is a good result.
#[derive(Debug, Clone)]
pub(super) enum Probe {
    Tcp(Address),
    Http(HttpProbe),
    Grpc(GrpcProbe),
    /// The absolute path of a program, and its arguments.
    Command(Vec<String>),
}

/// A GET.
#[derive(Debug, Clone)]
pub(super) struct HttpProbe {
    pub(super) address: Address,
    pub(super) uri: Uri,
    pub(super) tls: Option<Authorities>,
    /// Values are marked as sensitive: they may be passwords.
    pub(super) headers: HeaderMap,
    pub(super) statuses: Statuses,
}

/// Whom to trust, over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Authorities {
    /// Those of the system.
    System,
    /// Those of this file, which is read again when it changes.
    File(PathBuf),
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone)]
pub(super) struct GrpcProbe {
    pub(super) address: Address,
    /// `None`: HTTP/2 in clear.
    pub(super) tls: Option<Authorities>,
    /// Which service is asked for; empty: the server as a whole.
    pub(super) service: String,
}

/// `200-299,401`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statuses(Vec<RangeInclusive<u16>>);

// === impl Check ===

impl Check {
    /// Reads one that is about `instance`; `None` when a mistake was found.
    pub(super) fn read(fields: Fields<'_>, instance: &Instance) -> Option<Self> {
        let mut fields = fields;
        let interval = fields.duration("interval", INTERVAL, INTERVALS);
        let timeout = fields.duration("timeout", TIMEOUT, TIMEOUTS);
        let rise = streak(&mut fields, "rise", RISE);
        let fall = streak(&mut fields, "fall", FALL);
        let probe = Probe::read(&mut fields, instance);
        fields.end(FIELDS);
        Some(Self { probe: probe?, interval, timeout, rise, fall })
    }
}

fn streak(fields: &mut Fields<'_>, name: &str, default: NonZeroU32) -> NonZeroU32 {
    let Some(given) = fields.take::<NonZeroU32>(name) else { return default };
    if given.get() > STREAK_MAX {
        fields.blame(name, format!("{given} is out of range; give 1 to {STREAK_MAX}"));
    }
    given
}

// === impl Probe ===

impl Probe {
    fn read(fields: &mut Fields<'_>, instance: &Instance) -> Option<Self> {
        let kind = fields.need::<String>("type")?;
        let address = |fields: &mut Fields<'_>| fields.take("address").unwrap_or_else(|| instance.address.clone());
        match kind.as_str() {
            "tcp" => Some(Self::Tcp(address(fields))),
            "http" => HttpProbe::read(fields, instance.scheme, &address).map(Self::Http),
            "grpc" => {
                let service = fields.take("service").unwrap_or_default();
                let tls = Authorities::read(fields, instance.scheme);
                Some(Self::Grpc(GrpcProbe { address: address(fields), tls, service }))
            }
            "command" => command(fields).map(Self::Command),
            _ => {
                fields.blame("type", "is no type of check; give tcp, http, grpc or command");
                None
            }
        }
    }

    /// The name of the host that is connected to, if it has one.
    pub(super) fn host_name(&self) -> Option<&str> {
        let address = match self {
            Self::Tcp(address) | Self::Http(HttpProbe { address, .. }) | Self::Grpc(GrpcProbe { address, .. }) => {
                address
            }
            Self::Command(_) => return None,
        };
        match &address.host {
            Host::Name(name) => Some(name.as_str()),
            Host::V4(_) | Host::V6(_) => None,
        }
    }

    /// As its `type` is written.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Tcp(_) => Kind::Tcp,
            Self::Http(_) => Kind::Http,
            Self::Grpc(_) => Kind::Grpc,
            Self::Command(_) => Kind::Command,
        }
    }
}

/// The types of checks.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    prometheus_client::encoding::EncodeLabelValue,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = CheckType)]
pub enum Kind {
    /// A connection.
    Tcp,
    /// A GET.
    Http,
    /// `grpc.health.v1`.
    Grpc,
    /// A program.
    Command,
}

fn command(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let command = fields.need::<Vec<String>>("command")?;
    let is_absolute = command.first().is_some_and(|program| program.starts_with('/'));
    if !is_absolute {
        fields
            .blame("command", "needs the absolute path of a program first; no shell reads it and no PATH is searched");
    }
    if command.len() > ARGUMENTS_MAX {
        fields.blame("command", format!("has {} words; {ARGUMENTS_MAX} are allowed", command.len()));
    }
    if command.iter().any(|word| word.contains('\0')) {
        fields.blame("command", "contains a NUL, which no argument can");
    }
    Some(command)
}

// === impl Authorities ===

impl Authorities {
    /// For an instance of this scheme; `None`: it is asked in clear.
    fn read(fields: &mut Fields<'_>, scheme: Scheme) -> Option<Self> {
        let file = fields.take::<PathBuf>("ca");
        if file.as_ref().is_some_and(|file| !file.is_absolute()) {
            fields.blame("ca", "needs an absolute path");
        }
        if scheme == Scheme::Https {
            return Some(file.map_or(Self::System, Self::File));
        }
        if file.is_some() {
            fields.blame("ca", "is for an instance whose scheme is https");
        }
        None
    }
}

// === impl HttpProbe ===

impl HttpProbe {
    fn read(fields: &mut Fields<'_>, scheme: Scheme, address: &impl Fn(&mut Fields<'_>) -> Address) -> Option<Self> {
        let address = address(fields);
        let path = fields.take::<HealthPath>("path");
        let path = path.map_or_else(|| "/".to_owned(), |path| path.to_string());
        let statuses = fields.value("status").map(|value| Statuses::read(&value));
        let statuses =
            statuses.unwrap_or(Ok(Statuses(vec![200..=299]))).map_err(|reason| fields.blame("status", reason));
        let headers = headers(fields);
        let tls = Authorities::read(fields, scheme);
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::H2c => {
                fields.blame(
                    "type",
                    "http asks by HTTP/1.1, which an h2c instance need not speak; use grpc, tcp or a command",
                );
                return None;
            }
        };
        let uri =
            format!("{scheme}://{address}{path}").parse().map_err(|error| fields.blame("path", format!("{error}")));
        Some(Self { address, uri: uri.ok()?, tls, headers, statuses: statuses.ok()? })
    }
}

fn headers(fields: &mut Fields<'_>) -> HeaderMap {
    let given = fields.take::<Map<String, Value>>("headers").unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let path = format!("headers.{}", name.chars().take(64).collect::<String>());
        let Ok(name) = HeaderName::try_from(&name) else {
            fields.blame(&path, "is no name of a header field");
            continue;
        };
        match value.as_str().map(HeaderValue::try_from) {
            Some(Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            Some(Err(_)) | None => fields.blame(&path, "is no text that a header field can have"),
        }
    }
    headers
}

// === impl Statuses ===

impl Statuses {
    /// Whether it is one of them.
    pub(super) fn contain(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }

    /// A number, or ranges separated by commas.
    fn read(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => String::new(),
        };
        let ranges = text.split(',').map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let bounds =
                [from, to].map(|bound| bound.trim().parse::<u16>().ok().filter(|one| (100..=599).contains(one)));
            match bounds {
                [Some(from), Some(to)] if from <= to => Some(from..=to),
                _ => None,
            }
        });
        let wanted = "give statuses, such as 200, \"200-299\" or \"200,401\"";
        ranges.collect::<Option<_>>().map(Self).ok_or_else(|| format!("is no list of statuses; {wanted}"))
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |range: &RangeInclusive<u16>| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        };
        f.write_str(&self.0.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_numbers_and_ranges() {
        let read = |value: Value| Statuses::read(&value).map(|statuses| statuses.to_string());
        assert_eq!(read(json!(204)).unwrap(), "204");
        assert_eq!(read(json!("200-299, 401")).unwrap(), "200-299,401");
        let statuses = Statuses::read(&json!("200-299,401")).unwrap();
        assert!(statuses.contain(StatusCode::NO_CONTENT) && statuses.contain(StatusCode::UNAUTHORIZED));
        assert!(!statuses.contain(StatusCode::FOUND) && !statuses.contain(StatusCode::FORBIDDEN));
        for wrong in [json!("2xx"), json!(""), json!("299-200"), json!(99), json!(600), json!([200]), json!(200.5)] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
