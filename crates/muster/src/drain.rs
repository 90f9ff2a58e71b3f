//! `muster drain`: an operator's word about an instance, until it is taken back or that instance has ended.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::DrainOptions;

/// Says it, and says what that means.
#[expect(clippy::print_stdout, reason = "an operator wants to know that it was done")]
pub(crate) async fn run(options: &DrainOptions) -> anyhow::Result<()> {
    let DrainOptions { registries, undo, service, instance, outlives, .. } = options;
    let registries = registries.client()?;
    let path = ["v1", "services", service, "instances", instance.as_str(), "override"];
    if *undo {
        let answer = registries.ask(&Method::DELETE, &path, None).await?;
        let was = if answer["existed"] == false { " (it was not drained)" } else { "" };
        println!("{service} {instance} speaks for itself again{was}");
        return Ok(());
    }
    registries.ask(&Method::PUT, &path, Some(&order(options))).await?;
    let end = if *outlives { "also after a restart, until" } else { "until it ends, or until" };
    println!("{service} {instance} is draining: it gets no new requests, {end}");
    println!("  muster drain {service} {instance} --undo");
    Ok(())
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
