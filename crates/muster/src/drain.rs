//! `muster drain`: an operator's word about an instance, until it is taken back.

use reqwest::Method;
use serde_json::json;

use crate::cli::DrainOptions;

/// Says it, and says what that means.
#[expect(clippy::print_stdout, reason = "an operator wants to know that it was done")]
pub(crate) async fn run(options: &DrainOptions) -> anyhow::Result<()> {
    let DrainOptions { registries, undo, service, instance } = options;
    let registries = registries.client()?;
    let path = ["v1", "services", service, "instances", instance.as_str(), "override"];
    if *undo {
        let answer = registries.ask(&Method::DELETE, &path, None).await?;
        let was = if answer["existed"] == false { " (it was not drained)" } else { "" };
        println!("{service} {instance} speaks for itself again{was}");
        return Ok(());
    }
    registries.ask(&Method::PUT, &path, Some(&json!({ "status": "draining" }))).await?;
    println!("{service} {instance} is draining: it gets no new requests, also after a restart, until");
    println!("  muster drain {service} {instance} --undo");
    Ok(())
}
