//! What can be set, by flag or environment variable. One struct per concern; every default works as it is.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use discovery::policy::{self, Policy};
use discovery_etcd::EtcdOptions;
use ipnet::IpNet;
use service_kit::{
    config::{CommonOptions, ServiceConfig},
    connections::Bounds,
    duration,
    names::parse_name_server,
    networks,
};

/// The gateway: forwards /SERVICE/… to a live instance of SERVICE.
///
/// It learns the instances from etcd and keeps on serving when etcd is gone. Its admin side has /healthz, /readyz, /metrics
/// and /v1/table, the routing table with the decision for every instance.
#[derive(Debug, Clone, Parser)]
#[command(name = "balance", version)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Where requests come in.
    #[arg(long, env = "BALANCE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where operators look: keep it away from users.
    #[arg(long, env = "BALANCE_ADMIN_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
    /// File that keeps the last known instances, so that the gateway can start without etcd. Not kept by default.
    #[arg(long, env = "BALANCE_SNAPSHOT_FILE", value_name = "FILE")]
    pub snapshot_file: Option<PathBuf>,
    /// Where this gateway runs: instances that announce the same zone are preferred, while they have the capacity.
    #[arg(long, env = "BALANCE_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// Name servers that resolve instances' host names, in this order, as 10.0.0.2 or 10.0.0.2:5353, separated by commas.
    /// Default: those in /etc/resolv.conf, which is read again when it changes.
    #[arg(long, env = "BALANCE_NAME_SERVERS", value_name = "ADDRESS", value_delimiter = ',', value_parser = parse_name_server)]
    pub name_servers: Vec<SocketAddr>,
    /// How long an instance whose lease expired is still used when no other is registered, and while it accepts
    /// connections: so that the death of every registry, or of etcd, does not stop the traffic. When many vanish in one
    /// go, also beside those that are registered, for ten seconds. `0s`: not at all.
    #[arg(long, env = "BALANCE_LAST_RESORT", default_value = "10m", value_parser = duration::parse)]
    pub last_resort: Duration,
    /// The data path.
    #[command(flatten)]
    pub gateway: GatewayOptions,
    /// Where etcd is.
    #[command(flatten)]
    pub etcd: EtcdOptions,
}

/// The data path's options.
#[derive(Debug, Clone, Args)]
pub struct GatewayOptions {
    /// Threads that serve requests. Default: as many as there are cores.
    #[arg(long, env = "BALANCE_WORKERS", value_name = "NUMBER")]
    pub workers: Option<NonZeroUsize>,
    /// How long requests under way may take to finish after SIGTERM.
    #[arg(long, env = "BALANCE_DRAIN_TIMEOUT", default_value = "10s", value_parser = duration::parse)]
    pub drain_timeout: Duration,
    /// Whether / lists the services by name. Addresses are never shown there.
    #[arg(long, env = "BALANCE_INDEX", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub index: bool,
    /// Networks of other proxies, whose `X-Forwarded-*` is believed, as 10.0.0.0/8, separated by commas. From any other client
    /// it is replaced.
    #[arg(long, env = "BALANCE_TRUST_FORWARDED_FROM", value_delimiter = ',', value_name = "NETWORK", value_parser = networks::parse)]
    pub trust_forwarded_from: Vec<IpNet>,
    /// How much the gateway's own errors tell users: `reason`, or `full`, with the addresses of instances. The admin side
    /// always tells all.
    #[arg(long, env = "BALANCE_ERROR_DETAILS", default_value = "reason", value_name = "DETAILS")]
    pub error_details: policy::Details,
    /// How long things may take.
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// How large and how many things may be.
    #[command(flatten)]
    pub limits: Limits,
    /// Retries.
    #[command(flatten)]
    pub retries: Retries,
}

/// How long things may take. All are held to a tenth of a second.
#[derive(Debug, Clone, Copy, Args)]
pub struct Timeouts {
    /// To open a connection to an instance.
    #[arg(long, env = "BALANCE_CONNECT_TIMEOUT", default_value = "1s", value_parser = duration::parse_positive)]
    pub connect_timeout: Duration,
    /// Until the head of the response, since the request was sent; also for an instance that stops reading a request.
    #[arg(long, env = "BALANCE_RESPONSE_TIMEOUT", default_value = "30s", value_parser = duration::parse_positive)]
    pub response_timeout: Duration,
    /// How long an instance at which requests wait may send no byte, on any connection, nor answer a probe, before it counts as
    /// dead: then it is ejected, and a GET, HEAD or OPTIONS that waits there is sent to another instance as well. It is four
    /// times as long for an instance that was not seen working on several requests at a time, at most a third of the response
    /// timeout, and at least twice the longest answer of the last ten minutes, up to two thirds of the response timeout. `0s`: for ever.
    #[arg(long, env = "BALANCE_STALL_TIMEOUT", default_value = "500ms", value_parser = duration::parse)]
    pub stall_timeout: Duration,
    /// Without a byte in either direction of a tunnel (WebSocket and other upgrades).
    #[arg(long, env = "BALANCE_TUNNEL_IDLE_TIMEOUT", default_value = "1h", value_parser = duration::parse_positive)]
    pub tunnel_idle_timeout: Duration,
    /// Without a byte in what is left of a tunnel when one side has ended its direction, and of a response from the instance
    /// when its client has: one that is gone for good looks the same.
    #[arg(long, env = "BALANCE_HALF_CLOSED_TIMEOUT", default_value = "30s", value_parser = duration::parse_positive)]
    pub half_closed_timeout: Duration,
    /// Without a byte of a response from the instance, or without the client taking one. There is no limit for the
    /// whole: downloads and event streams may take for ever while something moves.
    #[arg(long, env = "BALANCE_STREAM_IDLE_TIMEOUT", default_value = "5m", value_parser = duration::parse_positive)]
    pub stream_idle_timeout: Duration,
    /// Without a byte of a request's body from the client.
    #[arg(long, env = "BALANCE_BODY_IDLE_TIMEOUT", default_value = "30s", value_parser = duration::parse_positive)]
    pub body_idle_timeout: Duration,
    /// For a request's head, from its first byte to its last, however steadily it drips.
    #[arg(long, env = "BALANCE_HEADER_TIMEOUT", default_value = "5s", value_parser = duration::parse_positive)]
    pub header_timeout: Duration,
    /// How long a client's connection may wait for its next request. Longer than what usual proxies in front keep theirs (nginx
    /// and AWS's ALB 60 s), so that they close first and no request meets a connection that is just being closed.
    #[arg(long, env = "BALANCE_KEEP_ALIVE", default_value = "75s", value_parser = duration::parse_positive)]
    pub keep_alive: Duration,
    /// How long a connection to an instance is kept for the next request. Shorter than what common servers keep theirs
    /// (Node.js and uvicorn 5 s), so that a request does not meet a connection that is just being closed.
    #[arg(long, env = "BALANCE_UPSTREAM_KEEP_ALIVE", default_value = "4s", value_parser = duration::parse)]
    pub upstream_keep_alive: Duration,
}

/// How large and how many things may be.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limits {
    /// Largest head of a request, in bytes (431).
    #[arg(long, env = "BALANCE_HEADER_MAX_BYTES", default_value_t = 32 * 1024, value_name = "BYTES")]
    pub header_max_bytes: usize,
    /// Most header fields of a request (431).
    #[arg(long, env = "BALANCE_HEADER_FIELDS_MAX", default_value_t = 100, value_name = "NUMBER")]
    pub header_fields_max: usize,
    /// Longest path and query, in bytes (414).
    #[arg(long, env = "BALANCE_TARGET_MAX_BYTES", default_value_t = 8 * 1024, value_name = "BYTES")]
    pub target_max_bytes: usize,
    /// Largest body of a request, in bytes (413).
    #[arg(long, env = "BALANCE_BODY_MAX_BYTES", default_value_t = 10 * 1024 * 1024, value_name = "BYTES")]
    pub body_max_bytes: u64,
    /// Slowest rate at which a request's body may arrive, in bytes per second, after 10 s of waiting for the client (408). 0
    /// for no limit.
    #[arg(long, env = "BALANCE_BODY_MIN_BYTES_PER_S", default_value_t = 1024, value_name = "BYTES")]
    pub body_min_bytes_per_s: u64,
    /// Slowest rate at which a client may take a response, in bytes per second, after 30 s of waiting for the client (the connection
    /// breaks). 0 for no limit.
    #[arg(long, env = "BALANCE_RESPONSE_MIN_BYTES_PER_S", default_value_t = 1024, value_name = "BYTES")]
    pub response_min_bytes_per_s: u64,
    /// Most connections of clients. At the bound, of the client network (IPv4 address, IPv6 /64) that holds the most, the
    /// connection that has waited longest without a request is closed for a new one; while all have a request under way,
    /// new ones get 503.
    #[arg(long, env = "BALANCE_CONNECTIONS_MAX", default_value_t = 10_000, value_name = "NUMBER")]
    pub connections_max: usize,
    /// Most connections of one client network. At the bound its longest waiting one is closed for a new one; while all have
    /// a request under way, new ones get 503. Proxies in the networks of `--trust-forwarded-from` have no such bound, because
    /// theirs are of many clients. 0 for no bound. Default: half of `--connections-max`.
    #[arg(long, env = "BALANCE_CONNECTIONS_PER_CLIENT_MAX", value_name = "NUMBER")]
    pub connections_per_client_max: Option<usize>,
    /// Most unused connections kept to one instance, per worker.
    #[arg(long, env = "BALANCE_UPSTREAM_IDLE_MAX", default_value_t = 64, value_name = "NUMBER")]
    pub upstream_idle_max: usize,
}

impl Limits {
    pub(crate) fn connections(&self) -> Bounds {
        let default = Bounds::shared_by_two(self.connections_max);
        Bounds { per_client_max: self.connections_per_client_max.unwrap_or(default.per_client_max), ..default }
    }
}

/// Retries on another instance.
#[derive(Debug, Clone, Copy, Args)]
pub struct Retries {
    /// Most attempts for one request, the first included. What may be tried again at all, is not for choosing.
    #[arg(long, env = "BALANCE_ATTEMPTS_MAX", default_value_t = 3, value_name = "NUMBER")]
    pub attempts_max: u32,
    /// Largest body that is kept for a retry, in bytes, when its length is known beforehand.
    #[arg(long, env = "BALANCE_REPLAY_MAX_BYTES", default_value_t = 64 * 1024, value_name = "BYTES")]
    pub replay_max_bytes: u64,
}

// === impl Config ===

impl ServiceConfig for Config {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn health_address(&self) -> SocketAddr {
        self.admin_listen
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.etcd.mistakes();
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            mistakes.push("--listen and --admin-listen must not be the same address".to_owned());
        }
        mistakes.extend(self.gateway.mistakes());
        mistakes
    }
}

// === impl GatewayOptions ===

impl GatewayOptions {
    fn mistakes(&self) -> Vec<String> {
        let Limits { header_max_bytes, header_fields_max, target_max_bytes, connections_max, .. } = self.limits;
        let rules = [
            (header_fields_max < 1, "--header-fields-max must be at least 1, for Host"),
            (header_max_bytes < 1024, "--header-max-bytes must be at least 1024"),
            (header_max_bytes > 256 * 1024, "--header-max-bytes must be at most 262144"),
            (target_max_bytes > header_max_bytes, "--target-max-bytes must not be larger than --header-max-bytes"),
            (connections_max < 1, "--connections-max must be at least 1"),
            (self.retries.attempts_max < 1, "--attempts-max must be at least 1"),
        ];
        let mut mistakes: Vec<String> =
            rules.into_iter().filter(|(is_broken, _)| *is_broken).map(|(_, rule)| rule.to_owned()).collect();
        if let Err(mistake) = self.default_policy().check() {
            mistakes.push(format!("a default of the services' policies is out of range: {mistake}"));
        }
        mistakes
    }

    /// How services are treated of which `config/<service>` says nothing else.
    #[must_use]
    pub fn default_policy(&self) -> Policy {
        let (timeouts, default) = (&self.timeouts, Policy::default());
        Policy {
            timeouts: policy::Timeouts {
                connect: timeouts.connect_timeout,
                response: timeouts.response_timeout,
                stream_idle: timeouts.stream_idle_timeout,
                ..default.timeouts
            },
            retries: policy::Retries { attempts_max: self.retries.attempts_max, ..default.retries },
            errors: policy::Errors { details: self.error_details },
            ..default
        }
    }

    /// The number of workers.
    pub(crate) fn cores(&self) -> usize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.workers.unwrap_or_else(cores).get()
    }
}

/// The flags' own defaults, so that they stand in one place.
macro_rules! default_as_flags {
    ($($options:ty),*) => {$(
        impl Default for $options {
            fn default() -> Self {
                let command = <Self as Args>::augment_args(clap::Command::new("")).mut_args(|arg| arg.env(None::<&str>));
                let matches = command.get_matches_from([""]);
                <Self as clap::FromArgMatches>::from_arg_matches(&matches).expect("every option has a default")
            }
        }
    )*};
}
default_as_flags!(GatewayOptions, Timeouts, Limits, Retries);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_free_of_mistakes() {
        let config = Config::try_parse_from(["balance"]).unwrap();
        assert!(config.mistakes().is_empty(), "{:?}", config.mistakes());
        assert_eq!((config.listen.port(), config.health_address().port()), (8080, 8081));
        assert_eq!(GatewayOptions::default().limits.header_fields_max, 100);
    }

    #[test]
    fn every_broken_rule_names_its_option() {
        let config = Config::try_parse_from([
            "balance",
            "--listen=127.0.0.1:1",
            "--admin-listen=127.0.0.1:1",
            "--header-max-bytes=1",
            "--attempts-max=0",
            "--connections-max=0",
        ])
        .unwrap();
        let all = config.mistakes().join("\n");
        for option in ["--listen", "--header-max-bytes", "--target-max-bytes", "--attempts-max", "--connections-max"] {
            assert!(all.contains(option), "{option} in\n{all}");
        }
    }
}
