//! What the gateway does meanwhile: for how long it sends an instance that lives no requests.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use e2e::fault_suite::FaultSuite;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// From one look at the table to the next.
const EVERY: Duration = Duration::from_millis(10);

/// A lookout that goes on until [`TableLook::stop`].
pub(crate) struct TableLook {
    stop: CancellationToken,
    task: JoinHandle<Vec<Duration>>,
}

impl TableLook {
    /// Looks at the instances `names`.
    pub(crate) fn start(fault_suite: &FaultSuite, names: &[String]) -> Self {
        let stop = CancellationToken::new();
        let look = look(fault_suite.client.clone(), fault_suite.admin_url("/v1/table"), names.to_vec(), stop.clone());
        Self { stop, task: tokio::spawn(look) }
    }

    /// How long each was unregistered and got no requests, whenever that was.
    pub(crate) async fn stop(self) -> Vec<Duration> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn look(client: reqwest::Client, url: String, names: Vec<String>, stop: CancellationToken) -> Vec<Duration> {
    let (mut since, mut spans) = (BTreeMap::<String, Instant>::new(), Vec::new());
    while !stop.is_cancelled() {
        if let Ok(answer) = client.get(&url).send().await
            && let Ok(table) = answer.json::<serde_json::Value>().await
        {
            let instances = table["services"]["test-instance"]["instances"].as_array().cloned().unwrap_or_default();
            for name in &names {
                let is_it = |one: &&serde_json::Value| one["key"].as_str().is_some_and(|key| key.ends_with(name));
                let decision = instances.iter().find(is_it).and_then(|one| one["decision"].as_str());
                // Ejected ones are registered: that is another matter.
                if matches!(decision, None | Some("last_resort")) {
                    since.entry(name.clone()).or_insert_with(Instant::now);
                } else {
                    spans.extend(since.remove(name).map(|at| at.elapsed()));
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    spans.extend(since.into_values().map(|at| at.elapsed()));
    spans
}
