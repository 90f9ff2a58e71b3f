//! Which replica sends alerts: the leader, which holds `alert/sender` in etcd.

use std::{collections::BTreeSet, time::Duration};

use discovery::{LeaseId, ServiceName, Ttl};
use discovery_etcd::{Etcd, EtcdError};
use service_kit::chain;
use tokio::time::Instant;

use super::{down_detector::Told, level::Level};

/// Held by the replica that sends; its value says which one that is.
pub const SENDER_KEY: &str = "alert/sender";

/// What people believe of the services that are not well, as JSON: `{"mail":"down"}`; before that, a list of the names of those
/// that were too few or none.
pub const TOLD_KEY: &str = "alert/told";

/// How often the key is kept alive, or looked for: two failures are survived, as with heartbeats.
const INTERVAL: Duration = Duration::from_millis(1500);

/// This replica's part in the leader election.
#[derive(Debug)]
pub struct Leadership {
    etcd: Etcd,
    holder: String,
    held: Option<Held>,
    /// Whether no other replica is known to have led since this one did.
    is_last: bool,
    next: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: LeaseId,
    /// When etcd last said so.
    confirmed: Instant,
}

// === impl Leadership ===

impl Leadership {
    /// For a replica called `holder`; holds nothing yet.
    #[must_use]
    pub fn new(etcd: Etcd, holder: String) -> Self {
        Self { etcd, holder, held: None, is_last: false, next: None }
    }

    /// Whether this replica sends.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some_and(|held| held.confirmed.elapsed() < Ttl::default().get())
    }

    /// Whether this replica sends, or was the last that did, as far as it knows: for the time when etcd cannot be asked.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Renews the leadership, or campaigns for it, when that is due. After an election: which alerts have been sent.
    pub async fn tick(&mut self, now: Instant) -> Option<Told> {
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + INTERVAL);
        if self.held.is_some() && self.confirm().await {
            return None;
        }
        if self.is_held() {
            // etcd did not answer, but the lease runs on.
            return None;
        }
        let won = self.campaign().await;
        won.unwrap_or_else(|error| {
            tracing::debug!(error = %chain(&error), "cannot campaign for the leadership of the alerts");
            None
        })
    }

    /// Makes sure right now.
    pub async fn confirm(&mut self) -> bool {
        let Some(held) = &mut self.held else { return false };
        match self.etcd.keep_alive(held.lease).await {
            Ok(_) => {
                held.confirmed = Instant::now();
                true
            }
            Err(EtcdError::LeaseNotFound { .. }) => {
                self.held = None;
                false
            }
            Err(_) => false,
        }
    }

    /// Saves which alerts have been sent.
    pub async fn write_down(&self, told: &Told) {
        let text = serde_json::to_string(told).expect("a map of strings always becomes JSON");
        if let Err(error) = self.etcd.put_election_note(TOLD_KEY, &text).await {
            tracing::warn!(error = %chain(&error), "cannot save which alerts were sent; the next leader may send them again");
        }
    }

    async fn campaign(&mut self) -> Result<Option<Told>, EtcdError> {
        self.held = None;
        let asked = Instant::now();
        let Some(lease) = self.etcd.campaign(SENDER_KEY, &self.holder, Ttl::default()).await? else {
            self.is_last = false;
            return Ok(None);
        };
        self.is_last = true;
        let told = self.etcd.election_note(TOLD_KEY).await?;
        self.held = Some(Held { lease, confirmed: asked });
        tracing::info!(holder = self.holder, "this replica sends the alerts");
        Ok(Some(told.map(|text| read(&text)).unwrap_or_default()))
    }
}

/// Reads what was written down, also by a replica of before levels.
fn read(text: &str) -> Told {
    let names = |text| serde_json::from_str::<BTreeSet<ServiceName>>(text).unwrap_or_default();
    serde_json::from_str(text)
        .unwrap_or_else(|_| names(text).into_iter().map(|service| (service, Level::Down)).collect())
}

impl Drop for Leadership {
    fn drop(&mut self) {
        // A successor need not wait for the lease to end.
        if let Some(held) = self.held
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let etcd = self.etcd.clone();
            runtime.spawn(async move { etcd.resign(SENDER_KEY, held.lease).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_of_before_levels_told_is_understood() {
        let told: Told = [("shop".parse().unwrap(), Level::Down)].into();
        assert_eq!(read(r#"["shop"]"#), told);
        assert_eq!(read(r#"{"shop":"down"}"#), told);
        assert_eq!(read("[]"), Told::default());
        assert_eq!(read("what"), Told::default());
    }
}
