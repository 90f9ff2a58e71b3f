//! What is configured about who may do what.

use std::{net::SocketAddr, path::PathBuf};

use discovery::Address;
use ipnet::IpNet;
use service_kit::{
    names::{Names as Lookups, parse_name_server},
    networks,
};

use super::{
    budget::{Budget, parse_size},
    infrastructure::Infrastructure,
    names::AllowNames,
};

/// Tokens, addresses, limits.
#[derive(Debug, Clone, clap::Args)]
pub struct AdmissionOptions {
    /// API tokens: a file with a line for each, `NAME sha256:HASH SERVICE:ACTION,…`; made by `registry token new`. Read
    /// again when it changes. Without it, authentication is disabled: every client has full access.
    #[arg(long, env = "REGISTRY_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// Networks whose addresses may be announced, as 10.0.0.0/8, separated by commas. Default: the private ones, and
    /// loopback if the registry itself listens there. Addresses of machines' metadata, link-local, multicast and
    /// unspecified ones are never taken.
    #[arg(long, env = "REGISTRY_ALLOW_NETWORKS", value_name = "NETWORKS", value_delimiter = ',', value_parser = networks::parse)]
    pub allow_networks: Vec<IpNet>,
    /// Addresses that are never taken as an instance's, beside this registry's own and etcd's: the gateways' admin sides and the
    /// other registries, as gateway-1:8081, separated by commas.
    #[arg(long, env = "REGISTRY_REFUSE_ADDRESSES", value_name = "ADDRESSES", value_delimiter = ',')]
    pub refuse_addresses: Vec<Address>,
    /// What to do with a host name instead of an IP address.
    #[arg(long, env = "REGISTRY_ALLOW_NAMES", value_enum, default_value_t)]
    pub allow_names: AllowNames,
    /// Name servers that resolve announced host names, in this order, as 10.0.0.2 or 10.0.0.2:5353, separated by commas.
    /// Default: those in /etc/resolv.conf, which is read again when it changes.
    #[arg(long, env = "REGISTRY_NAME_SERVERS", value_name = "ADDRESS", value_delimiter = ',', value_parser = parse_name_server)]
    pub name_servers: Vec<SocketAddr>,
    /// Take an address only from the client that has it. Not behind a proxy.
    #[arg(long, env = "REGISTRY_SOURCE_MATCH")]
    pub source_match: bool,
    /// Ask the address of an instance that is new, or has moved, whether it is that instance: GET /.well-known/muster there,
    /// which the heartbeat crate answers. Only http instances can.
    #[arg(long, env = "REGISTRY_PROVE_ADDRESS")]
    pub prove_address: bool,
    /// Most requests a second of one client address, with twice as many at once; 0 for no limit.
    #[arg(long, env = "REGISTRY_CLIENT_RATE", value_name = "N", default_value_t = 2000)]
    pub client_rate: u32,
    /// Most instances of one service.
    #[arg(long, env = "REGISTRY_INSTANCES_MAX", value_name = "N", default_value_t = 10_000)]
    pub instances_max: usize,
    /// Most services that one token may have instances of.
    #[arg(long, env = "REGISTRY_SERVICES_PER_TOKEN_MAX", value_name = "N", default_value_t = 100)]
    pub services_per_token_max: usize,
    /// How much may be written to etcd.
    #[command(flatten)]
    pub writes: WriteOptions,
}

/// How much may be written to etcd in a minute, and be there at the same time; see [`super::writes`].
#[derive(Debug, Clone, clap::Args)]
pub struct WriteOptions {
    /// Most changes and bytes that one instance may write in a minute, as CHANGES/BYTES, with twenty minutes' worth at once; `off` for no
    /// bound. A heartbeat that changes nothing costs nothing.
    #[arg(long, env = "REGISTRY_INSTANCE_WRITES", value_name = "N/BYTES", default_value = "10/16KiB")]
    pub instance_writes: Budget,
    /// The same for all registrations with one token; where there are no tokens, of one client network (IPv4 address, IPv6 /64).
    #[arg(long, env = "REGISTRY_TOKEN_INSTANCE_WRITES", value_name = "N/BYTES", default_value = "750/256KiB")]
    pub token_instance_writes: Budget,
    /// The same for all registrations together.
    #[arg(long, env = "REGISTRY_ALL_INSTANCE_WRITES", value_name = "N/BYTES", default_value = "1500/512KiB")]
    pub all_instance_writes: Budget,
    /// The same for one setting of the config centre.
    #[arg(long, env = "REGISTRY_SETTING_WRITES", value_name = "N/BYTES", default_value = "15/64KiB")]
    pub setting_writes: Budget,
    /// The same for all settings with one token, or of one client network.
    #[arg(long, env = "REGISTRY_TOKEN_SETTING_WRITES", value_name = "N/BYTES", default_value = "75/128KiB")]
    pub token_setting_writes: Budget,
    /// The same for all settings together.
    #[arg(long, env = "REGISTRY_ALL_SETTING_WRITES", value_name = "N/BYTES", default_value = "150/256KiB")]
    pub all_setting_writes: Budget,
    /// Most bytes that the registrations of one service may take in etcd: keys and values, dialects not counted.
    #[arg(long, env = "REGISTRY_SERVICE_BYTES_MAX", value_name = "BYTES", default_value = "16MiB", value_parser = parse_size)]
    pub service_bytes_max: u64,
    /// Most bytes that all registrations together may take in etcd.
    #[arg(long, env = "REGISTRY_INSTANCES_BYTES_MAX", value_name = "BYTES", default_value = "64MiB", value_parser = parse_size)]
    pub instances_bytes_max: u64,
    /// Most bytes that the settings of one service may take in etcd, keys and values: those whose first part is its name.
    #[arg(long, env = "REGISTRY_SERVICE_SETTINGS_BYTES_MAX", value_name = "BYTES", default_value = "2MiB", value_parser = parse_size)]
    pub service_settings_bytes_max: u64,
    /// Most bytes that all settings together may take in etcd.
    #[arg(long, env = "REGISTRY_SETTINGS_BYTES_MAX", value_name = "BYTES", default_value = "16MiB", value_parser = parse_size)]
    pub settings_bytes_max: u64,
}

// === impl AdmissionOptions ===

impl AdmissionOptions {
    /// What is never taken as an instance by a registry that listens at `own` and writes to the endpoints `etcd`.
    #[must_use]
    pub fn infrastructure(&self, own: impl IntoIterator<Item = SocketAddr>, etcd: &[String]) -> Infrastructure {
        Infrastructure::new(own, etcd, &self.refuse_addresses, Lookups::new(self.name_servers.clone()))
    }

    /// What no single option can see.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let is_blind = self.prove_address && self.allow_names == AllowNames::Any;
        let mistake =
            "--prove-address needs to know which addresses a name stands for; give --allow-names resolve or refuse";
        is_blind.then(|| mistake.to_owned()).into_iter().collect()
    }
}
