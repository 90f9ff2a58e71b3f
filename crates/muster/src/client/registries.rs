//! Asking a registry: any of them will do.
//!
//! Registries are replicas without a leader, so a question that one does not answer, or answers with a 5xx, goes to the
//! next. An answer of 4xx is an answer: the others would say the same.

use std::time::SystemTime;

use anyhow::bail;
use http::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::client::{
    access::{Answer, Asker, TokenOptions, TrustOptions},
    places::{DataOption, Given, Origin, REGISTRY, shown, url},
};

/// Which registries to ask, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegistryOptions {
    /// Registries, as http://host:port or https://host:port, separated by commas; the first that answers is believed.
    /// By default those of the `muster up` whose data folder is --data, otherwise <http://127.0.0.1:8500>.
    #[arg(long, env = "REGISTRY_URLS", value_delimiter = ',', value_parser = url, value_name = "URL,…")]
    registry: Vec<Url>,
    #[command(flatten)]
    tokens: TokenOptions,
}

/// A client for them.
#[derive(Debug)]
pub(crate) struct Registries {
    pub(crate) urls: Vec<Url>,
    pub(crate) asker: Asker,
    pub(crate) origin: Origin,
}

/// What a registry said.
#[derive(Debug)]
pub(crate) struct Told {
    /// Which one.
    pub(crate) by: Url,
    /// `null` when there is nothing to say.
    pub(crate) json: Value,
    /// What its clock shows; ours when it does not say.
    pub(crate) now: SystemTime,
}

/// Why no registry said what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untold {
    /// One refused: the request, or who asks.
    #[error("{text}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// Which registry, and its words.
        text: String,
    },
    /// What is there is no JSON.
    #[error("{0}")]
    NotJson(String),
    /// None answers.
    #[error("no registry answers; say with --registry where one is ({origin} was asked)\n  {}", .failures.join("\n  "))]
    Silent {
        /// Why these were asked.
        origin: Origin,
        /// Each with its reason.
        failures: Vec<String>,
    },
}

// === impl RegistryOptions ===

impl RegistryOptions {
    /// A client for the registries that are meant.
    pub(crate) fn client(&self, given: &Given, data: &DataOption, trust: &TrustOptions) -> anyhow::Result<Registries> {
        let own: Vec<String> = self.registry.iter().map(Url::to_string).collect();
        let place = given.find(REGISTRY, given.registry, &own, data)?;
        let urls = place.parsed()?;
        if urls.is_empty() {
            bail!("--registry is empty; give at least one, as {}", REGISTRY.default);
        }
        Ok(Registries { asker: Asker::new(&urls, trust, &self.tokens)?, urls, origin: place.origin })
    }
}

// === impl Registries ===

impl Registries {
    /// Asks one after the other, and returns the first answer.
    ///
    /// `path` are the segments of the path; what needs escaping in them is escaped.
    ///
    /// # Errors
    /// None answers, each with its reason; one refuses, with what it says; or those that answer have no JSON.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        path: &[&str],
        query: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Told, Untold> {
        let ask = async |url: &Url| self.asker.ask(method, &below(url, path, query), body).await;
        self.first_answer(ask).await
    }

    /// Writes what is not there yet; refused with 412 when something is, maybe from an attempt of this call whose
    /// answer was lost.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) async fn create(&self, path: &[&str], body: &Value) -> Result<Told, Untold> {
        self.first_answer(async |url: &Url| self.asker.create(&below(url, path, None), body).await).await
    }

    async fn first_answer(&self, ask: impl AsyncFn(&Url) -> Result<Answer, String>) -> Result<Told, Untold> {
        let mut failures = Vec::new();
        let mut not_json = None;
        for url in &self.urls {
            let answer = match ask(url).await {
                Ok(answer) => answer,
                Err(why) => {
                    failures.push(format!("{}: {why}", shown(url)));
                    continue;
                }
            };
            if answer.status.is_server_error() {
                failures.push(answer.refusal(url));
                continue;
            }
            if !answer.status.is_success() {
                return Err(Untold::Refused { status: answer.status, text: answer.refusal(url) });
            }
            let now = answer.date.unwrap_or_else(SystemTime::now);
            match answer.json {
                Ok(json) => return Ok(Told { by: url.clone(), json, now }),
                Err(why) => not_json = Some(format!("{} answered something that is not JSON: {why}", shown(url))),
            }
        }
        let silent = || Untold::Silent { origin: self.origin.clone(), failures };
        Err(not_json.map_or_else(silent, Untold::NotJson))
    }

    /// Who was asked, and why: `registry http://127.0.0.1:8500 (REGISTRY_URLS)`.
    pub(crate) fn named(&self, by: &Url) -> String {
        format!("registry {} ({})", shown(by), self.origin)
    }
}

/// The address of `path` below `url`.
pub(crate) fn below(url: &Url, path: &[&str], query: Option<&str>) -> Url {
    let mut full = url.clone();
    if let Ok(mut segments) = full.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    full.set_query(query);
    full
}
