//! The options of `muster up`.

use std::{path::PathBuf, time::Duration};

use service_kit::duration;

use crate::up::etcd::log_level::EtcdLogLevel;

/// Options of `muster up`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UpOptions {
    /// The folder for everything that is kept: etcd, users, mails, the gateway's table, muster.json.
    #[arg(long, env = "MUSTER_DATA", default_value = "data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Where registry, balance, mail and userlist are; by default beside muster itself.
    #[arg(long, env = "MUSTER_BIN_DIR", value_name = "FOLDER")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// The etcd program: a name that is looked for on PATH, or a path.
    #[arg(long, env = "MUSTER_ETCD", default_value = "etcd", value_name = "PROGRAM")]
    pub(crate) etcd: PathBuf,
    /// What the etcd members log.
    #[arg(long, env = "MUSTER_ETCD_LOG", value_enum, default_value_t)]
    pub(crate) etcd_log: EtcdLogLevel,
    /// How long each step of the end may take before what is left is killed.
    #[arg(long, default_value = "20s", value_parser = duration::parse_positive, value_name = "DURATION")]
    pub(crate) grace: Duration,
    /// How long to wait for everything to be ready before saying what is not.
    #[arg(long, default_value = "30s", value_parser = duration::parse_positive, value_name = "DURATION")]
    pub(crate) ready_within: Duration,
}
