//! The registry's options: flags and environment variables from one definition.

use std::net::SocketAddr;

use clap::Parser;
use discovery::{Dialect, import::Import};
use discovery_etcd::EtcdOptions;
use service_kit::{
    config::{CommonOptions, ServiceConfig},
    connections::ConnectionOptions,
    tls::TlsOptions,
};

use crate::{
    admission::AdmissionOptions,
    alerts::AlertOptions,
    dns::{DnsListen, zone::Zone},
    table::TableOptions,
};

/// Takes heartbeats over HTTP and gRPC and keeps one leased key per instance in etcd.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "registry",
    version,
    after_help = "registry token new NAME --scope SERVICE:ACTION makes an API token."
)]
pub struct Config {
    /// The options that every service has.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Where heartbeats, lists, /healthz, /readyz and /metrics are served.
    #[arg(long, env = "REGISTRY_LISTEN", default_value = "127.0.0.1:8500", value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Write every instance in these dialects, too, under the same lease: grpc, traefik, skydns, go-micro, separated by
    /// commas. All registries should be given the same.
    #[arg(long, env = "REGISTRY_DIALECTS", value_name = "DIALECTS", value_delimiter = ',')]
    pub dialects: Vec<Dialect>,
    /// Who may do what.
    #[command(flatten)]
    pub admission: AdmissionOptions,
    /// Where DNS questions are answered, over UDP and TCP; `off`: nowhere. When the default address is taken, this registry
    /// does without DNS.
    #[arg(long, env = "REGISTRY_DNS_LISTEN", default_value_t, value_name = "IP:PORT")]
    pub dns_listen: DnsListen,
    /// The domain below which services have names: mail.service.DOMAIN.
    #[arg(long, env = "REGISTRY_DNS_DOMAIN", default_value = "muster", value_name = "DOMAIN", value_parser = Zone::new)]
    pub dns_domain: Zone,
    /// Most answers a second over UDP to one client address, with twice as many at once: beyond that, clients are sent to
    /// TCP. 0 for no limit.
    #[arg(long, env = "REGISTRY_DNS_CLIENT_RATE", value_name = "N", default_value_t = 1000)]
    pub dns_client_rate: u32,
    /// Prefixes of keys that other frameworks (Kratos, go-zero, etcd's gRPC naming) have written, separated by commas: what
    /// is registered there becomes an instance here.
    #[arg(long = "import", env = "REGISTRY_IMPORT", value_name = "PREFIXES", value_delimiter = ',')]
    pub imports: Vec<Import>,
    /// What is checked instead of heard.
    #[command(flatten)]
    pub table: TableOptions,
    /// Whom to tell.
    #[command(flatten)]
    pub alerts: AlertOptions,
    /// How many connections.
    #[command(flatten)]
    pub connections: ConnectionOptions,
    /// Certificates for https.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// How etcd is reached.
    #[command(flatten)]
    pub etcd: EtcdOptions,
}

impl ServiceConfig for Config {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn speaks_tls(&self) -> bool {
        self.tls.is_on()
    }

    fn mistakes(&self) -> Vec<String> {
        [self.etcd.mistakes(), self.tls.mistakes(), self.admission.mistakes(), self.table.mistakes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_without_any_option() {
        let config = Config::try_parse_from(["registry"]).unwrap();
        assert_eq!(config.listen, ([127, 0, 0, 1], 8500).into());
    }
}
