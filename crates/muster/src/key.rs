//! `muster key`: the API keys with which clients pass the gateway.
//!
//! A key is made here, shown once, and kept nowhere: etcd gets its hash and the services that it opens, as the setting
//! `key/<id>` of the registry's config centre. Every gateway knows within milliseconds.

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
        KeyCommand::New { services, all, id } => {
            let services = services.iter().map(ToString::to_string);
            let services = if *all { vec![AccessKey::ALL.to_owned()] } else { services.collect() };
            new(&registries, id, services).await?
        }
        KeyCommand::Ls => list(&registries).await?,
        KeyCommand::Revoke { id } => revoke(&registries, id).await?,
    };
    Ok(screen::print(&text)?)
}

async fn new(registries: &Registries, id: &AccessKeyId, services: Vec<String>) -> anyhow::Result<String> {
    if read(registries, id).await?.is_some() {
        bail!("there is a key {id} already; revoke it, or give another id");
    }
    let secret = NewSecret::random().map_err(anyhow::Error::msg)?;
    let key = serde_json::to_value(AccessKey { sha256: secret.sha256, services })?;
    let told = registries.ask(&Method::PUT, &path(id), None, Some(&key)).await?;
    let by = registries.named(&told.by);
    Ok(format!("{}\n{id} is in force; the key is shown this once and kept nowhere\n{by}\n", secret.secret))
}

async fn list(registries: &Registries) -> anyhow::Result<String> {
    let told = registries.ask(&Method::GET, &["v1", "config"], None, None).await?;
    let settings = told.json["settings"].as_array().context("the registry's list has no settings")?;
    let ids = settings.iter().filter_map(|setting| AccessKeyId::of_setting(setting["key"].as_str()?));
    let mut rows = Vec::new();
    for id in ids {
        // One that is revoked meanwhile is none.
        if let Some(key) = read(registries, &id).await? {
            let services = AccessKey::parse(&key.to_string()).map(|key| key.services.join(", "));
            rows.push([id.to_string(), services.unwrap_or_else(|mistake| format!("none: {mistake}"))]);
        }
    }
    Ok(format!("{}{}\n", table::layout(["KEY", "SERVICES"], &rows), registries.named(&told.by)))
}

async fn revoke(registries: &Registries, id: &AccessKeyId) -> anyhow::Result<String> {
    let told = registries.ask(&Method::DELETE, &path(id), None, None).await?;
    let was = if told.json["existed"] == false { " (there was none)" } else { "" };
    Ok(format!("{id} is revoked{was}\n{}\n", registries.named(&told.by)))
}

/// What etcd holds of a key; `None` when there is none.
async fn read(registries: &Registries, id: &AccessKeyId) -> anyhow::Result<Option<Value>> {
    match registries.ask(&Method::GET, &path(id), None, None).await {
        Ok(told) => Ok(Some(told.json)),
        Err(Untold::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn path(id: &AccessKeyId) -> [&str; 4] {
    ["v1", "config", "key", id.as_str()]
}
