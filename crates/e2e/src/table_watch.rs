//! Looks at the gateway's table all the time: was an instance ever missing although it lived?
//!
//! Requests alone do not show it, when the others answer in its place.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// From one look to the next: a hundredth of the shortest lease.
const EVERY: Duration = Duration::from_millis(50);

/// A watch that goes on until [`TableWatch::stop`].
#[derive(Debug)]
pub struct TableWatch {
    stop: CancellationToken,
    task: JoinHandle<Removals>,
}

/// What it has seen.
#[derive(Debug, Default, Clone)]
pub struct Removals {
    /// How often the table was read.
    pub looks: usize,
    /// How often an instance was not in the table, with its name and when, since the start of the watch.
    pub missing: Vec<(String, Duration)>,
    /// At how many looks an instance was in the table and got no requests: ejected, or a last resort that is not used.
    pub unused: usize,
}

// === impl TableWatch ===

impl TableWatch {
    /// Watches over the instances `names` of `service` in the table that `url` shows.
    #[must_use]
    pub fn start(client: Client, url: String, service: &'static str, names: &'static [&'static str]) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let started = Instant::now();
            let mut removals = Removals::default();
            while !stopped.is_cancelled() {
                if let Ok(response) = client.get(&url).send().await
                    && let Ok(table) = response.json::<Value>().await
                {
                    removals.look(&table["services"][service]["instances"], names, started.elapsed());
                }
                tokio::time::sleep(EVERY).await;
            }
            removals
        });
        Self { stop, task }
    }

    /// Looks no more.
    ///
    /// # Panics
    ///
    /// When looking panicked.
    pub async fn stop(self) -> Removals {
        self.stop.cancel();
        self.task.await.expect("looking does not panic")
    }
}

// === impl Removals ===

impl Removals {
    fn look(&mut self, instances: &Value, names: &[&str], at: Duration) {
        self.looks += 1;
        for name in names {
            let is_it = |one: &&Value| one["key"].as_str().and_then(|key| key.rsplit('/').next()) == Some(name);
            let decision = instances.as_array().into_iter().flatten().find(is_it).map(|one| &one["decision"]);
            match decision.map(|decision| decision.as_str().unwrap_or_default()) {
                Some("in_rotation" | "kept" | "last_resort_in_use") => {}
                Some(_) => self.unused += 1,
                None => self.missing.push(((*name).to_owned(), at)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_not_in_the_table_is_missing_and_who_is_ejected_is_unused() {
        let instances = json!([
            { "key": "service/mail/a", "decision": "in_rotation" },
            { "key": "service/mail/b", "decision": "ejected" },
        ]);
        let mut removals = Removals::default();
        removals.look(&instances, &["a", "b", "c"], Duration::from_secs(1));
        removals.look(&Value::Null, &["a"], Duration::from_secs(2));
        assert_eq!((removals.looks, removals.unused), (2, 1));
        let missing = [("c".to_owned(), Duration::from_secs(1)), ("a".to_owned(), Duration::from_secs(2))];
        assert_eq!(removals.missing, missing);
    }
}
