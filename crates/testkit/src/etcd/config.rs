//! How a cluster is started: members, flags, TLS, and whether it can be cut in two.

use std::path::PathBuf;

/// How a cluster is started.
#[derive(Debug, Clone, Default)]
pub struct EtcdConfig {
    /// How many members: 1 or 3. 0 is 1.
    pub members: usize,
    /// More flags for every member.
    pub args: Vec<String>,
    /// TLS towards clients; without it, plain HTTP.
    pub tls: Option<EtcdTls>,
    /// Whether members talk through a network that can be cut ([`cut_off`](super::EtcdCluster::cut_off)).
    pub can_be_cut: bool,
}

/// Files for TLS between etcd and its clients, as PEM.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The authority that signed the members' certificates, and those that clients must have.
    pub ca: PathBuf,
    /// The members' certificate, for 127.0.0.1.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
