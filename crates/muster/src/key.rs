//! `muster key`: the API keys with which clients pass the gateway.
//!
//! A key is made here, shown once, and kept nowhere: etcd gets its hash and the services that it opens, as the setting
//! `key/<id>` of the registry's config centre. Every gateway knows within milliseconds.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use discovery::{AccessKey, AccessKeyId, ServiceName};
use http::{Method, StatusCode};
use serde_json::Value;
use service_kit::tokens::NewSecret;

use crate::{
    client::{
        access::TrustOptions,
        places::{DataOption, Given},
        registries::{Registries, RegistryOptions, Untold},
    },
    terminal::{screen, table},
};

/// Options of `muster key`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KeyOptions {
    #[command(flatten)]
    registries: RegistryOptions,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    data: DataOption,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum KeyCommand {
    /// Makes a key and prints it, once.
    New {
        /// A service that it opens; several, if given several times.
        #[arg(long = "service", value_name = "SERVICE", required_unless_present = "all")]
        services: Vec<ServiceName>,
        /// Opens every service.
        #[arg(long, conflicts_with = "services")]
        all: bool,
        /// How long it opens anything, as `90d`. Default: until it is revoked.
        #[arg(long, value_name = "DURATION", value_parser = lifetime)]
        expires: Option<Duration>,
        /// How the key is called in lists, in logs and at the service.
        id: AccessKeyId,
    },
    /// Lists the keys and what they open.
    Ls,
    /// Ends a key, at every gateway.
    Revoke {
        /// Which one, as `muster key ls` shows it.
        id: AccessKeyId,
    },
}

/// Carries out the command.
pub(crate) async fn run(options: &KeyOptions, given: &Given) -> anyhow::Result<()> {
    let registries = options.registries.client(given, &options.data, &options.trust)?;
    let text = match &options.command {
        KeyCommand::New { services, all, expires, id } => {
            let services = services.iter().map(ToString::to_string);
            let services = if *all { vec![AccessKey::ALL.to_owned()] } else { services.collect() };
            let expires = expires.and_then(|lifetime| SystemTime::now().checked_add(lifetime));
            new(&registries, id, services, expires).await?
        }
        KeyCommand::Ls => list(&registries).await?,
        KeyCommand::Revoke { id } => revoke(&registries, id).await?,
    };
    Ok(screen::print(&text)?)
}

/// Of two that make the same key at the same time, one makes it.
async fn new(
    registries: &Registries,
    id: &AccessKeyId,
    services: Vec<String>,
    expires: Option<SystemTime>,
) -> anyhow::Result<String> {
    let secret = NewSecret::random().map_err(anyhow::Error::msg)?;
    let key = AccessKey { sha256: secret.sha256, services, expires };
    let by = match registries.create(&path(id), &serde_json::to_value(&key)?).await {
        Ok(told) => registries.named(&told.by),
        // It may be ours, from a registry that has written it and whose answer was lost.
        Err(Untold::Refused { status: StatusCode::PRECONDITION_FAILED, .. }) => match read(registries, id).await? {
            Some(json) if json["sha256"] == *key.sha256 => "written by a registry whose answer was lost".to_owned(),
            Some(_) => bail!("there is a key {id} already; revoke it, or give another id"),
            None => bail!("there was a key {id} a moment ago, and now there is none; try again"),
        },
        Err(error) => return Err(error.into()),
    };
    let until = key.expires.map(|expires| format!(" until {}", humantime::format_rfc3339_seconds(expires)));
    let until = until.unwrap_or_default();
    Ok(format!("{}\n{id} is in force{until}; the key is shown this once and kept nowhere\n{by}\n", secret.secret))
}

/// How long a key opens anything: a second at least.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    // What can be written of a moment ends with the year 9999.
    if !(Duration::from_secs(1)..=Duration::from_secs(100 * 365 * 86_400)).contains(&lifetime) {
        return Err("is out of range; give 1s to 100 years, as 90d".to_owned());
    }
    Ok(lifetime)
}

async fn list(registries: &Registries) -> anyhow::Result<String> {
    let told = registries.ask(&Method::GET, &["v1", "config"], None, None).await?;
    let settings = told.json["settings"].as_array().context("the registry's list has no settings")?;
    let ids = settings.iter().filter_map(|setting| AccessKeyId::of_setting(setting["key"].as_str()?));
    let mut rows = Vec::new();
    for id in ids {
        match read(registries, &id).await {
            Ok(Some(key)) => rows.push(row(&id, &key, told.now)),
            // It was revoked meanwhile.
            Ok(None) => {}
            Err(Untold::NotJson(_)) => rows.push(row(&id, &Value::Null, told.now)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(format!("{}{}\n", table::layout(["KEY", "SERVICES", "EXPIRES"], &rows), registries.named(&told.by)))
}

fn row(id: &AccessKeyId, key: &Value, now: SystemTime) -> [String; 3] {
    let key = match AccessKey::parse(&key.to_string()) {
        Ok(key) => key,
        Err(mistake) => return [id.to_string(), format!("none: {mistake}"), "-".to_owned()],
    };
    let expires = match key.expires.map(humantime::format_rfc3339_seconds) {
        None => "never".to_owned(),
        Some(moment) if key.is_in_force(now) => moment.to_string(),
        Some(moment) => format!("{moment}, expired"),
    };
    [id.to_string(), key.services.join(", "), expires]
}

async fn revoke(registries: &Registries, id: &AccessKeyId) -> anyhow::Result<String> {
    let told = registries.ask(&Method::DELETE, &path(id), None, None).await?;
    let was = if told.json["existed"] == false { " (there was none)" } else { "" };
    Ok(format!("{id} is revoked{was}\n{}\n", registries.named(&told.by)))
}

/// What etcd holds of a key; `None` when there is none.
async fn read(registries: &Registries, id: &AccessKeyId) -> Result<Option<Value>, Untold> {
    match registries.ask(&Method::GET, &path(id), None, None).await {
        Ok(told) => Ok(Some(told.json)),
        Err(Untold::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn path(id: &AccessKeyId) -> [&str; 4] {
    ["v1", "config", "key", id.as_str()]
}
