//! The bounds as options.

use super::Bounds;

/// How many connections a service takes. Flatten it into a service's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Args)]
pub struct ConnectionOptions {
    /// Most connections at the same time. At the bound, of the client network (IPv4 address, IPv6 /64) that holds the
    /// most, the connection that has waited longest without a request is closed for a new one; while all have a request
    /// under way, new ones wait. Default: 4096; mail: 1024.
    #[arg(long, env = "CONNECTIONS_MAX", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_max: Option<u32>,
    /// Most connections of one client network. At the bound its longest waiting one is closed for a new one; while all
    /// have a request under way, new ones get 503. 0 for no bound. Default: half of `--connections-max`.
    #[arg(long, env = "CONNECTIONS_PER_CLIENT_MAX", value_name = "NUMBER")]
    pub connections_per_client_max: Option<usize>,
}

// === impl ConnectionOptions ===

impl ConnectionOptions {
    /// The bounds of a service that takes `default_max` unless it is told otherwise.
    #[must_use]
    pub fn bounds(&self, default_max: usize) -> Bounds {
        let max = self.connections_max.map_or(default_max, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let default = Bounds::shared_by_two(max);
        Bounds { per_client_max: self.connections_per_client_max.unwrap_or(default.per_client_max), ..default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_half_unless_told_otherwise() {
        let options = |connections_max, connections_per_client_max| ConnectionOptions {
            connections_max,
            connections_per_client_max,
        };
        assert_eq!(options(None, None).bounds(1024), Bounds { max: 1024, per_client_max: 512 });
        assert_eq!(options(Some(3), None).bounds(1024), Bounds { max: 3, per_client_max: 2 });
        assert_eq!(options(Some(10), Some(0)).bounds(1024), Bounds { max: 10, per_client_max: 0 });
    }
}
