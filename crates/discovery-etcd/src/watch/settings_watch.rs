//! Following all settings: list, watch from there, and list again after any gap or a silence.
//!
//! Settings change seldom and are few. So there is no telling a quiet member from a frozen one by progress requests
//! here, as for instances: after [`SILENCE`] everything is listed again, from a member that answers.

use std::{convert::Infallible, time::Duration};

use discovery::{CONFIG_PREFIX, Revision, SettingKey};
use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use service_kit::{backoff::Backoff, chain};
use tokio::time::{sleep, timeout};

use crate::{
    client::{etcd::Etcd, failure::Failure, member::ClientExt},
    keys::settings::Setting,
};

/// How long nothing may be heard before everything is listed again.
const SILENCE: Duration = Duration::from_secs(5);

/// What a follower of settings is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsChange {
    /// These, and no others, are the settings. Comes first, after every gap, and when nothing happened for a while.
    Listed(Revision, Vec<(SettingKey, Setting)>),
    /// What one transaction changed; `None`: deleted.
    Changed(Revision, Vec<(SettingKey, Option<Setting>)>),
}

// === impl Etcd ===

impl Etcd {
    /// Tells everything about all settings, for as long as it is polled. While etcd cannot be reached, nothing.
    pub async fn follow_settings(&self, mut tell: impl FnMut(SettingsChange)) -> Infallible {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            match self.settings().await {
                Ok((revision, settings)) => {
                    tell(SettingsChange::Listed(revision, settings));
                    match self.watch_settings(revision, &mut tell).await {
                        Ok(()) => backoff.reset(),
                        Err(failure) => {
                            tracing::debug!(%failure, "lost the watch of settings");
                            sleep(backoff.next_wait()).await;
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "cannot list settings; retrying");
                    sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Watches after `listed` until there is a silence, or the stream is lost.
    async fn watch_settings(&self, listed: Revision, tell: &mut impl FnMut(SettingsChange)) -> Result<(), Failure> {
        let index = self.order()[0];
        let member = &self.members[index];
        let open = |client: Client| {
            let mut watches = client.watch();
            let options = WatchOptions::new().with_prefix().with_start_revision(listed.next().0);
            async move { watches.watch(CONFIG_PREFIX, Some(options)).await }
        };
        let opened = timeout(self.attempt(), member.attempt(&open)).await;
        let opened = opened.unwrap_or(Err(Failure::Silent));
        let mut stream: WatchStream = opened.inspect_err(|failure| self.record_outcome(index, Some(failure)))?;
        while let Ok(message) = timeout(SILENCE, stream.message()).await {
            let Some(response) = message? else { return Err(Failure::Unreachable("the stream ended".to_owned())) };
            if response.canceled() || response.compact_revision() > 0 {
                return Err(Failure::Compacted);
            }
            if !response.events().is_empty() {
                tell(changed(&response));
            }
        }
        Ok(())
    }
}

fn changed(response: &WatchResponse) -> SettingsChange {
    let revision = Revision(response.header().map_or(0, |header| header.revision()));
    let events = response.events().iter().filter_map(|event| {
        let kv = event.kv()?;
        let setting = (event.event_type() == EventType::Put).then(|| Setting::from(kv));
        Some((SettingKey::parse(kv.key()).ok()?, setting))
    });
    SettingsChange::Changed(revision, events.collect())
}
