//! When the snapshot is written: after a change, in the background, and seldom enough to be cheap.

use std::time::Duration;

use service_kit::chain;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

use crate::{
    clock::Millis,
    discovery::{
        TARGET,
        instances::{Instances, Known},
        snapshot::SnapshotFile,
    },
};

/// Which part of the time goes into writing the snapshot at most: a hundredth. It is written whole, so with many instances it
/// is written less often, and a gateway that is killed leaves one that is so much older.
const PART: u32 = 100;
/// It is written so often nevertheless, when there is something new.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long after a snapshot that could not be written it is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct SnapshotWriter {
    file: SnapshotFile,
    /// What is on disk, as far as is known; `None`: it could not be written.
    saved: Option<u64>,
    /// Which version of what clients must show was in the last one.
    saved_rights: u64,
    saving: Option<JoinHandle<Option<Duration>>>,
    /// Not before this is it written again, unless what clients must show has changed.
    next: Instant,
}

// === impl SnapshotWriter ===

impl SnapshotWriter {
    /// That of `file`, which has what is known of the `instances`.
    pub(super) fn new(file: SnapshotFile, instances: &Instances) -> Self {
        let (saved, saved_rights) = (Some(instances.version()), instances.rights_version());
        Self { file, saved, saved_rights, saving: None, next: Instant::now() }
    }

    /// Writes what is new, if it is time for it and the one before is written.
    pub(super) async fn save_in_background(&mut self, instances: &Instances) {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        if let Some(saving) = self.saving.take() {
            let pause = self.note(saving.await.ok().flatten());
            self.next = Instant::now() + pause;
        }
        let is_urgent = self.saved_rights != instances.rights_version();
        if is_urgent || Instant::now() >= self.next {
            self.saving = self.unsaved(instances).map(|known| self.write(known));
        }
    }

    /// Writes what is new, whenever the one before was written.
    pub(super) async fn save_at_the_end(mut self, instances: &Instances) {
        if let Some(saving) = self.saving.take() {
            self.note(saving.await.ok().flatten());
        }
        if let Some(known) = self.unsaved(instances) {
            let _reported = self.write(known).await;
        }
    }

    fn unsaved(&mut self, instances: &Instances) -> Option<Known> {
        let version = instances.version();
        if self.saved == Some(version) {
            return None;
        }
        (self.saved, self.saved_rights) = (Some(version), instances.rights_version());
        Some(instances.known(Millis::now()))
    }

    fn write(&self, known: Known) -> JoinHandle<Option<Duration>> {
        let file = self.file.clone();
        spawn_blocking(move || save(&file, known))
    }

    /// How long the next one waits after one that took so long, or that failed (`None`).
    fn note(&mut self, took: Option<Duration>) -> Duration {
        if took.is_none() {
            self.saved = None;
        }
        took.map_or(RETRY, |took| (took * PART).min(PAUSE_MAX))
    }
}

/// Writes what is known; how long that took without the disk, or `None` when it could not be written.
fn save(file: &SnapshotFile, known: Known) -> Option<Duration> {
    let started = std::time::Instant::now();
    let written = file.save_timed(known.into_saved(), started);
    written
        .inspect_err(|error| tracing::warn!(target: TARGET, error = %chain(error), "the snapshot is out of date"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use discovery::{Instance, Registered, Revision, Update};

    use super::*;
    use crate::{addresses::AddressPolicy, table::routing_table::Source};

    fn started(path: &Path) -> (SnapshotWriter, Instances) {
        let mut instances = Instances::new(1, AddressPolicy::default(), Duration::ZERO);
        let writer = SnapshotWriter::new(SnapshotFile::at(path), &instances);
        instances.at(Source::Etcd, Revision(1));
        (writer, instances)
    }

    /// Something changes, and is in force.
    fn add(instances: &mut Instances, name: &str) {
        let instance = Instance::parse(b"http://10.0.0.1:1").unwrap();
        let (created, modified) = (Revision(1), Revision(1));
        let registered = Registered { key: name.parse().unwrap(), instance, lease: None, created, modified };
        instances.apply(Update::Add(registered), Millis(0));
        instances.table();
    }

    #[tokio::test]
    async fn a_revoked_key_does_not_wait_for_the_time_of_the_next_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.json");
        let (mut writer, mut instances) = started(&path);
        writer.next = Instant::now() + PAUSE_MAX;
        add(&mut instances, "service/mail/a");
        writer.save_in_background(&instances).await;
        assert!(writer.saving.is_none(), "instances wait");
        instances.set_access_key(&"ci".parse().unwrap(), None);
        instances.table();
        writer.save_in_background(&instances).await;
        assert!(writer.saving.take().unwrap().await.unwrap().is_some() && path.exists());
        let text = Some(r#"{"load_balancing":{"policy":"random"}}"#.to_owned());
        let _any = instances.set_policy(&"mail".parse().unwrap(), text);
        instances.table();
        writer.save_in_background(&instances).await;
        assert!(writer.saving.is_some(), "nor does a policy");
    }

    #[tokio::test]
    async fn a_snapshot_that_could_not_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("later");
        let (mut writer, mut instances) = started(&later.join("snapshot.json"));
        add(&mut instances, "service/mail/a");
        writer.save_in_background(&instances).await;
        while writer.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            tokio::task::yield_now().await;
        }
        writer.save_in_background(&instances).await;
        assert!(writer.saving.is_none() && writer.next > Instant::now(), "not at once");
        std::fs::create_dir(&later).unwrap();
        writer.next = Instant::now();
        writer.save_in_background(&instances).await;
        assert!(writer.saving.take().unwrap().await.unwrap().is_some());
        assert!(later.join("snapshot.json").exists(), "although nothing has changed since");
    }
}
