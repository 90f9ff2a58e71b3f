//! Asking a registry: any of them will do.
//!
//! Registries are replicas without a leader, so a question that one does not answer, or answers with a 5xx, goes to the
//! next. An answer of 4xx is an answer: the others would say the same.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::{Client, Method, Response, Url};
use serde_json::Value;
use service_kit::chain;

use crate::state::State;

/// How long one registry may take. It answers within 2 s even when etcd is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a registry is when nobody says.
const DEFAULT: &str = "http://127.0.0.1:8500";

/// Which registries to ask.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegistryOptions {
    /// Registries, as http://host:port, separated by commas; the first that answers is believed. By default those of the
    /// `muster up` whose data folder is --data, otherwise <http://127.0.0.1:8500>.
    #[arg(long, env = "REGISTRY_URLS", value_delimiter = ',', value_parser = url, value_name = "URL,…")]
    registry: Vec<Url>,
    /// The data folder of a running `muster up`, for its addresses.
    #[arg(long, env = "MUSTER_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
}

/// A client for them.
#[derive(Debug)]
pub(crate) struct Registries {
    urls: Vec<Url>,
    client: Client,
}

/// An address that can be asked.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("{error}; write for example {DEFAULT}"))?;
    if url.scheme() != "http" || url.host_str().is_none() {
        return Err(format!("it must start with http:// and a host; write for example {DEFAULT}"));
    }
    Ok(url)
}

// === impl RegistryOptions ===

impl RegistryOptions {
    /// A client for the registries that are meant.
    pub(crate) fn client(&self) -> anyhow::Result<Registries> {
        let urls = if self.registry.is_empty() { self.default_urls()? } else { self.registry.clone() };
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().context("cannot make an HTTP client")?;
        Ok(Registries { urls, client })
    }

    fn default_urls(&self) -> anyhow::Result<Vec<Url>> {
        let running = State::read(&self.data).filter(State::is_running).map(|state| state.registries);
        let texts = running.unwrap_or_else(|| vec![DEFAULT.to_owned()]);
        let parsed = texts.iter().map(|text| url(text)).collect::<Result<_, _>>();
        parsed.map_err(|error| anyhow::anyhow!("{}: {error}", State::path(&self.data).display()))
    }
}

// === impl Registries ===

impl Registries {
    /// Asks one after the other, and returns the first answer.
    ///
    /// `path` are the segments of the path; what needs escaping in them is escaped. An empty answer is `null`.
    ///
    /// # Errors
    /// None answers, each with its reason; or one refuses, with what it says.
    pub(crate) async fn ask(&self, method: &Method, path: &[&str], body: Option<&Value>) -> anyhow::Result<Value> {
        let mut failures = Vec::new();
        for url in &self.urls {
            let mut full = url.clone();
            if let Ok(mut segments) = full.path_segments_mut() {
                segments.pop_if_empty().extend(path);
            }
            let mut request = self.client.request(method.clone(), full);
            if let Some(body) = body {
                request = request.json(body);
            }
            match request.send().await {
                Ok(response) if response.status().is_server_error() => failures.push(refusal(url, response).await),
                Ok(response) if response.status().is_success() => {
                    let bytes = response.bytes().await.with_context(|| format!("{url} broke off its answer"))?;
                    let is_nothing = bytes.iter().all(u8::is_ascii_whitespace);
                    let answer = if is_nothing { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
                    return answer.with_context(|| format!("{url} answered something that is not JSON"));
                }
                Ok(response) => bail!("{}", refusal(url, response).await),
                Err(error) => failures.push(format!("{url}: {}", chain(&error.without_url()))),
            }
        }
        bail!("no registry answers; say with --registry where one is\n  {}", failures.join("\n  "))
    }
}

/// `http://127.0.0.1:8500/: 503 etcd cannot commit`
pub(crate) async fn refusal(url: &Url, response: Response) -> String {
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    let detail =
        serde_json::from_str::<Value>(&body).ok().and_then(|problem| Some(problem["detail"].as_str()?.to_owned()));
    format!("{url}: {} {}", status.as_u16(), detail.unwrap_or(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state;

    fn options(registry: &[&str], data: &std::path::Path) -> RegistryOptions {
        RegistryOptions { registry: registry.iter().map(|text| url(text).unwrap()).collect(), data: data.to_owned() }
    }

    #[test]
    fn a_running_suite_is_found_by_its_data_folder_unless_registries_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let urls = |registry: &[&str]| options(registry, dir.path()).client().unwrap().urls;
        assert_eq!(urls(&[]), [url(DEFAULT).unwrap()], "nothing runs there");
        let mut state = state::sample();
        state.registries = vec!["http://127.0.0.1:18500".to_owned()];
        state.write(dir.path()).unwrap();
        assert_eq!(urls(&[]), [url("http://127.0.0.1:18500").unwrap()]);
        assert_eq!(urls(&["http://a:1"]), [url("http://a:1").unwrap()]);
        state.phase = state::Phase::Stopped;
        state.write(dir.path()).unwrap();
        assert_eq!(urls(&[]), [url(DEFAULT).unwrap()], "it has ended");
    }

    #[test]
    fn an_address_that_cannot_be_a_registry_says_what_to_write() {
        for text in ["127.0.0.1:8500", "https://a", "ftp://a", "", "http://"] {
            let error = url(text).unwrap_err();
            assert!(error.contains("http://127.0.0.1:8500"), "{text}: {error}");
        }
    }
}
