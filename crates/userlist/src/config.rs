//! The configuration of `userlist`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use heartbeat::HeartbeatOptions;
use service_kit::{
    config::{CommonOptions, ServiceConfig},
    connections::ConnectionOptions,
};

use crate::{command::Command, store::DatabaseOptions};

/// Keeps names and e-mail addresses in MySQL or SQLite.
#[derive(Debug, Clone, Parser)]
#[command(name = "userlist", version)]
pub struct Config {
    /// Where to listen.
    #[arg(long, env = "USERLIST_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:6060")]
    pub listen: SocketAddr,

    /// Where the users are.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// Where and as what this instance registers.
    #[command(flatten)]
    pub heartbeat: HeartbeatOptions,

    /// Who may call: a file of API tokens. Without one, anyone who can connect.
    #[arg(long, env = "USERLIST_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,

    /// How many connections.
    #[command(flatten)]
    pub connections: ConnectionOptions,

    /// What all services have.
    #[command(flatten)]
    pub common: CommonOptions,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

// === impl Config ===

impl ServiceConfig for Config {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn mistakes(&self) -> Vec<String> {
        self.database.kind().err().map(|mistake| mistake.to_string()).into_iter().collect()
    }
}
