//! Makes the registrations of other frameworks, Kratos and go-zero say, instances like all others.
//!
//! Each becomes a native key that lives by the lease of its original, so that it is listed, answered for in DNS and
//! routed by every gateway, and dies with its original in the same moment. None of these readers has to know where it
//! came from.
//!
//! Once a second the foreign keys are listed and compared with what should stand in `service/`: a new instance is found
//! within a second, one that loses its lease is gone at once, one whose key is deleted while its lease lives on within a
//! second. Reading costs etcd no log entry, and nothing is written while nothing changes. Every replica does this; of two
//! that write the same, etcd lets one through. An instance that has registered itself is left alone.
//!
//! Its address is held to the same networks as any other. Imported keys arrive through etcd, not over HTTP, so there is no source to match; and their program
//! knows nothing of proofs, so it is not asked for one.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use discovery::{Instance, InstanceKey, LeaseId, Revision, import::Import};
use discovery_etcd::{Etcd, EtcdError, ForeignList, Held};
use service_kit::chain;
use tokio::time::{MissedTickBehavior, interval};

use crate::{admission::Admission, mirror::Mirror};

/// How often foreign keys are listed.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Brings copies and originals together.
#[derive(Debug)]
pub struct Importer {
    etcd: Etcd,
    mirror: Mirror,
    admission: Admission,
    imports: Vec<Import>,
    /// Keys that cannot be parsed, so that each is logged once.
    unreadable: BTreeSet<Vec<u8>>,
    /// Instances with an address that may not be announced, likewise.
    refused: BTreeSet<InstanceKey>,
    /// Whether the last look failed, so that it is told once.
    failing: bool,
}

/// What should stand in `service/`: instance and lease by key.
type Wanted = BTreeMap<InstanceKey, (Instance, Option<LeaseId>)>;

/// What is to be done to one native key.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Adopt { key: InstanceKey, instance: Box<Instance>, lease: Option<LeaseId>, seen: Option<Revision> },
    Release { key: InstanceKey, seen: Revision },
}

// === impl Importer ===

impl Importer {
    /// Imports from these prefixes what `admission` lets pass; from none, if there is none.
    pub fn new(etcd: Etcd, mirror: Mirror, admission: Admission, imports: Vec<Import>) -> Self {
        let unreadable = BTreeSet::new();
        let refused = BTreeSet::new();
        Self { etcd, mirror, admission, imports, unreadable, refused, failing: false }
    }

    /// Goes on for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        if self.imports.is_empty() {
            return std::future::pending().await;
        }
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // What is not known cannot be compared; the leases take care of instances that are gone.
            if self.mirror.is_fresh() {
                let looked = self.look().await;
                self.tell(&looked);
            }
        }
    }

    async fn look(&mut self) -> Result<(), EtcdError> {
        let mut seen = BTreeSet::new();
        for import in self.imports.clone() {
            let listed = self.etcd.list_foreign(&import.prefix()).await?;
            let wanted = self.read(&import, &listed);
            seen.extend(wanted.keys().cloned());
            for step in self.plan(&import, wanted, listed.revision) {
                self.take(step).await?;
            }
        }
        self.refused.retain(|key| seen.contains(key));
        Ok(())
    }

    fn tell(&mut self, looked: &Result<(), EtcdError>) {
        let failed = looked.as_ref().err();
        match failed {
            Some(error) if !self.failing => tracing::warn!(error = %chain(error), "foreign keys not imported"),
            Some(_) | None => {}
        }
        self.failing = failed.is_some();
    }

    /// Makes sense of what was listed. Of two originals of one instance, the first counts.
    fn read(&mut self, import: &Import, listed: &ForeignList) -> Wanted {
        let mut wanted = Wanted::new();
        let mut unreadable = BTreeSet::new();
        for foreign in &listed.keys {
            match import.read(&foreign.key, &foreign.value) {
                Ok((key, instance)) => {
                    wanted.entry(key).or_insert((instance, foreign.lease));
                }
                Err(reason) => {
                    if !self.unreadable.contains(&foreign.key) {
                        let key = String::from_utf8_lossy(&foreign.key);
                        tracing::warn!(%key, %reason, "invalid foreign key, skipped");
                    }
                    unreadable.insert(foreign.key.clone());
                }
            }
        }
        let prefix = import.prefix();
        self.unreadable.retain(|key| !key.starts_with(prefix.as_bytes()));
        self.unreadable.append(&mut unreadable);
        wanted
    }

    fn plan(&self, import: &Import, wanted: Wanted, listed_at: Revision) -> Vec<Step> {
        let view = self.mirror.read();
        let mut steps = Vec::new();
        for service in view.services() {
            let copies = service.instances.iter().map(|entry| &entry.registered);
            let copies = copies.filter(|copy| import.is_origin_of(&copy.instance));
            // A copy that is younger than the list may be of an original that the list does not have yet.
            let orphans = copies.filter(|copy| copy.modified <= listed_at && !wanted.contains_key(&copy.key));
            steps.extend(orphans.map(|copy| Step::Release { key: copy.key.clone(), seen: copy.modified }));
        }
        steps.extend(wanted.into_iter().filter_map(|(key, (instance, lease))| {
            let held = view.held(&key);
            adopt(import, key, instance, lease, held.as_ref())
        }));
        steps
    }

    async fn take(&mut self, step: Step) -> Result<(), EtcdError> {
        match step {
            Step::Adopt { key, instance, lease, seen } => {
                if let Err(denied) = self.admission.admit_import(&instance.address).await {
                    if self.refused.insert(key.clone()) {
                        tracing::warn!(%key, %instance, error = %chain(&denied), "not imported");
                    }
                    return Ok(());
                }
                if self.etcd.adopt(&key, &instance, lease, seen).await? {
                    tracing::info!(%key, %instance, "instance imported");
                }
            }
            Step::Release { key, seen } => {
                if self.etcd.release(&key, seen).await? {
                    tracing::info!(%key, "the original of an imported instance is gone");
                }
            }
        }
        Ok(())
    }
}

/// Whether the native key is to be written: not if it is as it should be, or has been written by the instance itself.
fn adopt(
    import: &Import,
    key: InstanceKey,
    instance: Instance,
    lease: Option<LeaseId>,
    held: Option<&Held>,
) -> Option<Step> {
    let seen = match held {
        None => None,
        Some(Held { instance: Some(copy), lease: by, modified }) if import.is_origin_of(copy) => {
            if *copy == instance && *by == lease {
                return None;
            }
            Some(*modified)
        }
        Some(_) => return None,
    };
    Some(Step::Adopt { key, instance: Box::new(instance), lease, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(value: &str, lease: i64) -> Held {
        Held { instance: Some(value.parse().unwrap()), lease: Some(LeaseId(lease)), modified: Revision(9) }
    }

    fn step(held: Option<&Held>) -> Option<Step> {
        let import: Import = "/m".parse().unwrap();
        let (key, instance) = import.read(b"/m/mail/a", b"10.0.0.5:7070").unwrap();
        adopt(&import, key, instance, Some(LeaseId(1)), held)
    }

    #[test]
    fn an_original_without_a_copy_gets_one_and_one_with_a_copy_does_not() {
        assert!(matches!(step(None), Some(Step::Adopt { seen: None, .. })));
        assert_eq!(step(Some(&held("http://10.0.0.5:7070?meta.imported=/m", 1))), None);
    }

    #[test]
    fn a_copy_follows_the_value_and_the_lease_of_its_original() {
        for outdated in
            [held("http://10.0.0.6:7070?meta.imported=/m", 1), held("http://10.0.0.5:7070?meta.imported=/m", 2)]
        {
            assert!(matches!(step(Some(&outdated)), Some(Step::Adopt { seen: Some(Revision(9)), .. })));
        }
    }

    #[test]
    fn an_instance_that_registered_itself_is_left_alone() {
        assert_eq!(step(Some(&held("10.0.0.9:7070", 7))), None);
        assert_eq!(step(Some(&held("http://10.0.0.9:7070?meta.imported=/other", 7))), None);
        assert_eq!(step(Some(&Held { instance: None, lease: None, modified: Revision(9) })), None);
    }
}
