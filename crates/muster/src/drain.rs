//! `muster drain`: an operator's word about an instance, until it is taken back or that instance has ended.

use discovery::{InstanceId, ServiceName};
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{
        access::TrustOptions,
        places::{DataOption, Given},
        registries::RegistryOptions,
    },
    terminal::screen,
};

/// Options of `muster drain`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DrainOptions {
    #[command(flatten)]
    registries: RegistryOptions,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    data: DataOption,
    /// Puts the instance back into rotation.
    #[arg(long)]
    undo: bool,
    /// Why, for readers of the list.
    #[arg(long, value_name = "TEXT", conflicts_with = "undo")]
    reason: Option<String>,
    /// Who says so.
    #[arg(long, env = "USER", hide_env_values = true, value_name = "NAME")]
    author: Option<String>,
    /// Holds on when the instance ends: the next holder of its id is drained, too, until it is taken back.
    #[arg(long, conflicts_with = "undo")]
    outlives: bool,
    /// The service.
    service: ServiceName,
    /// The instance, as `muster ls` shows it.
    instance: InstanceId,
}

/// Says it, and says what that means.
pub(crate) async fn run(options: &DrainOptions, given: &Given) -> anyhow::Result<()> {
    let DrainOptions { registries, trust, data, undo, service, instance, outlives, .. } = options;
    let registries = registries.client(given, data, trust)?;
    let path = ["v1", "services", service, "instances", instance.as_str(), "override"];
    if *undo {
        let told = registries.ask(&Method::DELETE, &path, None, None).await?;
        let was = if told.json["existed"] == false { " (it was not drained)" } else { "" };
        let by = registries.named(&told.by);
        return Ok(screen::print(&format!("{service} {instance} is back in rotation{was}\n{by}\n"))?);
    }
    let told = registries.ask(&Method::PUT, &path, None, Some(&order(options))).await?;
    let undo = given.hint.command("drain", &[service, instance.as_str()], " --undo");
    let by = registries.named(&told.by);
    let end = if *outlives { "also after a restart, until" } else { "until it ends, or until" };
    Ok(screen::print(&format!("{service} {instance} is draining: it gets no new requests, {end}\n  {undo}\n{by}\n"))?)
}

/// What is not said is left out, so that a registry of an earlier version takes it as well.
fn order(options: &DrainOptions) -> Value {
    let mut order = json!({ "status": "draining" });
    if let Some(author) = options.author.as_ref().filter(|author| !author.is_empty()) {
        order["author"] = json!(author);
    }
    if let Some(reason) = &options.reason {
        order["reason"] = json!(reason);
    }
    if options.outlives {
        order["outlives"] = json!(true);
    }
    order
}
