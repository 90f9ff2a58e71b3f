//! Asking gateways at their admin sides.

use std::time::Duration;

use anyhow::bail;
use http::Method;
use serde_json::Value;
use url::Url;

use crate::client::{
    access::{Asker, TokenOptions, TrustOptions},
    places::{ADMIN, DataOption, Given, Origin, shown, url},
    registries::below,
};

/// A table that etcd has not confirmed for longer than this shows what was, not what is.
pub(crate) const OLD: Duration = Duration::from_secs(3);

/// Which gateways to ask.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GatewayOptions {
    /// The admin sides of gateways, as http://host:port or https://host:port, separated by commas. By default that of
    /// the `muster up` whose data folder is --data, otherwise <http://127.0.0.1:8081>.
    #[arg(long, env = "BALANCE_ADMIN_URL", value_delimiter = ',', value_parser = url, value_name = "URL,…")]
    admin: Vec<Url>,
}

/// A client for them.
#[derive(Debug)]
pub(crate) struct Gateways {
    pub(crate) urls: Vec<Url>,
    pub(crate) asker: Asker,
    pub(crate) origin: Origin,
}

// === impl GatewayOptions ===

impl GatewayOptions {
    /// A client for the gateways that are meant. They get no token: their admin sides ask for none.
    pub(crate) fn client(&self, given: &Given, data: &DataOption, trust: &TrustOptions) -> anyhow::Result<Gateways> {
        let own: Vec<String> = self.admin.iter().map(Url::to_string).collect();
        let place = given.find(ADMIN, given.admin, &own, data)?;
        let urls = place.parsed()?;
        if urls.is_empty() {
            bail!("--admin is empty; give at least one, as {}", ADMIN.default);
        }
        Ok(Gateways { asker: Asker::new(&urls, trust, &TokenOptions::default())?, urls, origin: place.origin })
    }
}

// === impl Gateways ===

impl Gateways {
    /// What the first gateway says that answers, and which one that is.
    ///
    /// # Errors
    /// None answers, each with its reason; or one refuses, with what it says.
    pub(crate) async fn first(&self, path: &[&str], query: Option<&str>) -> anyhow::Result<(Value, Url)> {
        let mut failures = Vec::new();
        for url in &self.urls {
            match self.asker.ask(&Method::GET, &below(url, path, query), None).await {
                Ok(answer) if answer.status.is_success() => match answer.json {
                    Ok(json) => return Ok((json, url.clone())),
                    Err(why) => failures.push(format!("{} answered something that is not JSON: {why}", shown(url))),
                },
                Ok(answer) if answer.status.is_server_error() => failures.push(answer.refusal(url)),
                Ok(answer) => bail!("{}", answer.refusal(url)),
                Err(why) => failures.push(format!("{}: {why}", shown(url))),
            }
        }
        let origin = &self.origin;
        let failures = failures.join("\n  ");
        bail!("no gateway answers; say with --admin where one does ({origin} was asked)\n  {failures}")
    }

    /// Which one was asked, and why: `gateway http://127.0.0.1:8081 (the default)`.
    pub(crate) fn named(&self, by: &Url) -> String {
        format!("gateway {} ({})", shown(by), self.origin)
    }
}
