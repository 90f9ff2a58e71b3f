use std::time::Duration;

use discovery::{Address, FieldError, Instance, InstanceId, Ttl, heartbeat::FullHeartbeat};
use service_kit::duration;

use crate::{Credentials, RegistryUrl};

/// To whom an instance announces itself, and as what. `#[command(flatten)]` it into a service's configuration.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct HeartbeatOptions {
    /// Registries, separated by commas; grpc://HOST:PORT for heartbeats over gRPC. They are equal: the first heartbeat
    /// goes to a random one, the next ones to whichever worked last.
    #[arg(
        long = "registry",
        env = "REGISTRY_URLS",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8500",
        value_parser = parse_registry
    )]
    pub registries: Vec<RegistryUrl>,

    /// The address by which others reach this instance. Default: the address of the interface that reaches the
    /// registry, and the port that is listened on.
    #[arg(long, env = "ADVERTISE", value_name = "HOST:PORT", value_parser = parse_advertise)]
    pub advertise: Option<Address>,

    /// The name of this instance among those of its service, the same after a restart. Default: its address.
    #[arg(long, env = "INSTANCE_ID", value_name = "ID", value_parser = parse_instance_id)]
    pub instance_id: Option<InstanceId>,

    /// Where this instance runs (a rack, a data centre): gateways may prefer their own zone.
    #[arg(long, env = "ZONE", value_parser = parse_zone)]
    pub zone: Option<String>,

    /// How long the registration outlives the last heartbeat, 2s to 1h. Heartbeats come every two fifths of it.
    #[arg(long, env = "TTL", default_value = "5s", value_parser = parse_ttl)]
    pub ttl: Ttl,

    /// How long to go on serving after leaving, until every gateway has noticed. At most 1m; 0s does not wait.
    ///
    /// A gateway sees the change within milliseconds; the rest of the default is for one that is busy.
    #[arg(long, env = "LET_GO", value_name = "DURATION", default_value = "300ms", value_parser = parse_let_go)]
    pub let_go: Duration,

    /// What proves to the registries who this is.
    #[command(flatten)]
    pub credentials: Credentials,
}

// === impl HeartbeatOptions ===

impl HeartbeatOptions {
    /// The default of [`HeartbeatOptions::let_go`].
    pub const LET_GO: Duration = Duration::from_millis(300);
    /// The longest [`HeartbeatOptions::let_go`].
    pub const LET_GO_MAX: Duration = Duration::from_secs(60);

    /// What the command line gives without any option, but for these registries. For tests and other embedders.
    #[must_use]
    pub fn for_registries(registries: Vec<RegistryUrl>) -> Self {
        Self {
            registries,
            advertise: None,
            instance_id: None,
            zone: None,
            ttl: Ttl::default(),
            let_go: Self::LET_GO,
            credentials: Credentials::default(),
        }
    }
}

fn parse_registry(text: &str) -> Result<RegistryUrl, String> {
    text.parse().map_err(reason)
}

/// Refuses what the registry would refuse, such as `0.0.0.0`: at start, not in a log line later.
fn parse_advertise(text: &str) -> Result<Address, String> {
    let address: Address = text.parse().map_err(reason)?;
    FullHeartbeat::new(&Instance::at(address.clone()), Ttl::default()).into_parts().map_err(reason)?;
    Ok(address)
}

/// In the spelling in which the registry keeps it: a proof of address names the id.
fn parse_instance_id(text: &str) -> Result<InstanceId, String> {
    text.parse().map(InstanceId::in_one_spelling).map_err(reason)
}

fn parse_zone(text: &str) -> Result<String, String> {
    let address = "localhost:1".parse().expect("a host name and a port");
    let instance = Instance { zone: Some(text.to_owned()), ..Instance::at(address) };
    instance.check().map_err(reason)?;
    Ok(text.to_owned())
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    Ttl::try_from(duration::parse(text)?).map_err(reason)
}

fn parse_let_go(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        let_go if let_go <= HeartbeatOptions::LET_GO_MAX => Ok(let_go),
        _ => Err("it is too long; give at most \"1m\"".to_owned()),
    }
}

/// The option's name is shown in front of the reason anyway.
fn reason(error: FieldError) -> String {
    error.reason
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Sample {
        #[command(flatten)]
        heartbeat: HeartbeatOptions,
    }

    fn parse(args: &[&str]) -> Result<HeartbeatOptions, clap::Error> {
        Sample::try_parse_from([&["sample"], args].concat()).map(|sample| sample.heartbeat)
    }

    #[test]
    fn the_defaults_of_both_ways_are_the_same() {
        let registries = vec!["http://127.0.0.1:8500".parse().unwrap()];
        assert_eq!(parse(&[]).unwrap(), HeartbeatOptions::for_registries(registries));
    }

    #[test]
    fn several_registries_are_separated_by_commas() {
        let options = parse(&["--registry", "http://a:8500,http://b:8500", "--ttl", "2500ms"]).unwrap();
        let shown: Vec<String> = options.registries.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://a:8500", "http://b:8500"]);
        assert_eq!(options.ttl.as_millis(), 2500);
    }

    #[test]
    fn what_a_registry_would_refuse_is_refused_at_start() {
        for (args, hint) in [
            (["--advertise", "0.0.0.0:80"], "nowhere that others could connect to"),
            (["--advertise", "mail"], "has no port"),
            (["--instance-id", "a/b"], "has a '/'"),
            (["--zone", "a\nb"], "control"),
            (["--ttl", "1s"], "2s to 1h"),
            (["--ttl", "5"], "a unit is missing"),
            (["--let-go", "2m"], "at most"),
            (["--registry", "a:8500"], "write http://a:8500"),
            (["--registry", "http://a,"], "it is empty"),
        ] {
            let error = parse(&args).unwrap_err().to_string();
            assert!(error.contains(hint), "{args:?}: {error}");
        }
    }
}
