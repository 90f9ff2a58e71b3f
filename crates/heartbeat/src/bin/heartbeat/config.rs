//! The sidecar's options: what is announced, when it counts as well, and what is run.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use clap::{Parser, value_parser};
use discovery::{Address, FieldError, HealthPath, Host, Instance, Scheme, ServiceName, Weight};
use heartbeat::{Details, HeartbeatOptions};
use service_kit::{duration, telemetry::LogFormat};
use url::Url;

use crate::owner::Listeners;

/// Announces a program as an instance of a service for as long as it runs and is well.
#[derive(Debug, Clone, Parser)]
#[command(name = "heartbeat", version)]
pub(crate) struct Config {
    /// The service that the program is an instance of.
    #[arg(long, env = "SERVICE", value_parser = parse_field::<ServiceName>)]
    pub(crate) service: Option<ServiceName>,

    /// The TCP port that the program listens on.
    #[arg(long, env = "PORT", value_parser = value_parser!(NonZeroU16))]
    pub(crate) port: Option<NonZeroU16>,

    /// The address that the program listens on. Default: all addresses of this machine.
    #[arg(long, value_parser = parse_field::<Host>)]
    pub(crate) host: Option<Host>,

    /// Whose the sockets that listen on the port may be.
    #[arg(long, env = "LISTENERS", value_enum, default_value_t)]
    pub(crate) listeners: Listeners,

    #[command(flatten)]
    pub(crate) heartbeat: HeartbeatOptions,

    /// The program is well while GET of this URL answers 2xx or 3xx. Default check: its port accepts connections.
    #[arg(long, env = "CHECK_HTTP", value_name = "URL", value_parser = parse_check_url)]
    pub(crate) check_http: Option<Url>,

    /// The program is well while this command, run by `sh -c`, exits with 0.
    #[arg(long, env = "CHECK_CMD", value_name = "CMD")]
    pub(crate) check_cmd: Option<String>,

    /// From the start of one check to the start of the next. Before the first success at most 250ms.
    #[arg(long, env = "CHECK_INTERVAL", value_name = "DURATION", default_value = "2s", value_parser = duration::parse_positive)]
    pub(crate) check_interval: Duration,

    /// How long a check may take; a command is killed then, with everything it started.
    #[arg(long, env = "CHECK_TIMEOUT", value_name = "DURATION", default_value = "1s", value_parser = duration::parse_positive)]
    pub(crate) check_timeout: Duration,

    /// Passing checks in a row that make the program well: the first time, and after it was `critical`.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) rise: u32,

    /// Failing checks in a row that make it `critical`.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(1..))]
    pub(crate) fall: u32,

    /// How long the program may take to end after SIGTERM, before SIGKILL.
    #[arg(long, env = "GRACE", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(crate) grace: Duration,

    /// The protocol that the program speaks: http, https or h2c.
    #[arg(long, default_value = "http", value_parser = parse_field::<Scheme>)]
    pub(crate) scheme: Scheme,

    /// The program's share of the traffic, 1 to 1000.
    #[arg(long, default_value = "1", value_parser = parse_field::<Weight>)]
    pub(crate) weight: Weight,

    /// Which release the program is.
    #[arg(long, value_name = "VERSION")]
    pub(crate) release: Option<String>,

    /// The path by which gateways may ask the program whether it is well.
    #[arg(long, value_name = "PATH", value_parser = parse_field::<HealthPath>)]
    pub(crate) health: Option<HealthPath>,

    /// A label to select by; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Whatever else is worth knowing; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_meta)]
    pub(crate) meta: Vec<(String, String)>,

    /// What is logged, as `level` or `crate=level`, separated by commas.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,

    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,

    /// The program and its arguments. Without: something that runs already is announced.
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

/// Who is announced.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) service: ServiceName,
    pub(crate) host: Option<Host>,
    pub(crate) port: NonZeroU16,
}

// === impl Config ===

impl Config {
    /// What no single option can see. The two that must be given are checked here, too, because clap would not name
    /// them.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.target().err().unwrap_or_default();
        if self.check_http.is_some() && self.check_cmd.is_some() {
            mistakes.push("--check-http and --check-cmd are both given; choose one check".to_owned());
        }
        let address = Address { host: Host::V4(Ipv4Addr::LOCALHOST), port: NonZeroU16::MIN };
        let Details { version, tags, meta, .. } = self.details();
        let instance = Instance { version, tags, meta, ..Instance::at(address) };
        if let Err(FieldError { field, reason }) = instance.check() {
            let option = match field.as_ref() {
                "version" => "release",
                "tags" => "tag",
                _ => "meta",
            };
            mistakes.push(format!("--{option} ({field}) {reason}"));
        }
        mistakes
    }

    /// Who is announced, or which options are missing for that.
    pub(crate) fn target(&self) -> Result<Target, Vec<String>> {
        match (self.service.clone(), self.port) {
            (Some(service), Some(port)) => Ok(Target { service, host: self.host.clone(), port }),
            (service, port) => {
                let missing = [
                    service
                        .is_none()
                        .then_some("--service (SERVICE) is missing; name the service, as in --service web"),
                    port.is_none().then_some("--port (PORT) is missing; give the port that the program listens on"),
                ];
                Err(missing.into_iter().flatten().map(str::to_owned).collect())
            }
        }
    }

    /// What is announced about the program.
    pub(crate) fn details(&self) -> Details {
        Details {
            scheme: self.scheme,
            weight: self.weight,
            version: self.release.clone(),
            health: self.health.clone(),
            tags: self.tags.iter().cloned().collect(),
            meta: self.meta.iter().cloned().collect::<BTreeMap<_, _>>(),
            ..Details::default()
        }
    }
}

// === impl Target ===

impl Target {
    /// What the program is bound to, as far as addresses can say it.
    pub(crate) fn listen(&self) -> SocketAddr {
        let ip = self.host.as_ref().and_then(Host::ip).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        SocketAddr::new(ip, self.port.get())
    }

    /// Whether it may listen on any address of this machine.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.host.as_ref().is_none_or(|host| host.ip().is_some_and(|ip| ip.is_unspecified()))
    }

    /// What must be free for it to listen; `None` when its host is a name, which is not for us to resolve.
    pub(crate) fn wanted(&self) -> Option<SocketAddr> {
        let ip = self.host.as_ref().map_or(Some(Ipv6Addr::UNSPECIFIED.into()), Host::ip)?;
        Some(SocketAddr::new(ip, self.port.get()))
    }

    /// The address to announce when the program listens on a name, which only others can resolve rightly.
    pub(crate) fn named(&self) -> Option<Address> {
        let host = self.host.clone().filter(|host| host.ip().is_none())?;
        Some(Address { host, port: self.port })
    }

    /// Where this machine reaches what listens on `listen`.
    pub(crate) fn nearby(&self, listen: SocketAddr) -> Address {
        let first = self.local().into_iter().next();
        let address = if listen.ip().is_unspecified() { first } else { Address::try_from(listen).ok().or(first) };
        address.expect("a target has at least one address")
    }

    /// Where the program accepts connections from this machine.
    pub(crate) fn local(&self) -> Vec<Address> {
        let at = |host: &str| Address { host: host.parse().expect("an IP address"), port: self.port };
        match &self.host {
            Some(host) if !self.is_everywhere() => vec![Address { host: host.clone(), port: self.port }],
            _ => vec![at("127.0.0.1"), at("::1")],
        }
    }
}

fn parse_field<T: std::str::FromStr<Err = FieldError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: FieldError| error.reason)
}

fn parse_check_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "http" => Ok(url),
        Ok(_) => Err("only plain http is spoken; write http://HOST:PORT/PATH, or use --check-cmd".to_owned()),
        Err(error) => Err(format!("{error}; write for example http://127.0.0.1:8000/healthz")),
    }
}

fn parse_meta(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "a '=' is missing; write KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Config {
        Config::try_parse_from([&["heartbeat"], args].concat()).unwrap()
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_said_at_once() {
        let mistakes = parse(&["--check-http", "http://a/", "--check-cmd", "true", "--tag", ""]).mistakes().join("\n");
        for expected in ["--service (SERVICE) is missing", "--port (PORT) is missing", "choose one check", "--tag"] {
            assert!(mistakes.contains(expected), "{expected} is missing in\n{mistakes}");
        }
        assert_eq!(parse(&["--service", "web", "--port", "80"]).mistakes(), [""; 0]);
    }

    #[test]
    fn everything_behind_the_dashes_belongs_to_the_program() {
        let config = parse(&["--service", "web", "--port", "80", "--", "./my-server", "--port", "81", "--", "x"]);
        assert_eq!(config.command, ["./my-server", "--port", "81", "--", "x"]);
        assert_eq!(config.port, NonZeroU16::new(80));
    }

    #[test]
    fn the_host_decides_where_the_program_is_looked_for_and_what_is_announced() {
        for (host, listen, local, named) in [
            (None, "0.0.0.0:80", vec!["127.0.0.1:80", "[::1]:80"], None),
            (Some("::"), "[::]:80", vec!["127.0.0.1:80", "[::1]:80"], None),
            (Some("10.0.0.5"), "10.0.0.5:80", vec!["10.0.0.5:80"], None),
            (Some("web.example"), "0.0.0.0:80", vec!["web.example:80"], Some("web.example:80")),
        ] {
            let host = host.map(|host| host.parse().unwrap());
            let target = Target { service: "web".parse().unwrap(), host, port: NonZeroU16::new(80).unwrap() };
            assert_eq!(target.listen().to_string(), listen);
            assert_eq!(target.local().iter().map(ToString::to_string).collect::<Vec<_>>(), local);
            assert_eq!(target.named().map(|address| address.to_string()).as_deref(), named);
        }
    }
}
