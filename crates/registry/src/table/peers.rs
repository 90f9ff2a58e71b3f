//! Which registries have a table, and which of them checks an instance.
//!
//! Each says under a key of its own that it is there, and what its table has ([`Announcement`]). The key lives by a
//! lease of [`TTL`], kept alive every [`INTERVAL`] by the very task that lists the others: a registry that is killed,
//! frozen or cut off from etcd is gone for the others within 3.5 s, the TTL and what etcd and the next look add.
//!
//! *Which may act.* A registry acts for its instances only while its own lease is known to live: etcd said so, and
//! since the question less than a TTL has passed. One that was frozen finds its knowledge too old when it goes on, and
//! does nothing until etcd has answered that its lease is gone; then it comes back as one that is new, for another
//! [`Term`], and what it knew of its instances counts no more. Before an instance is registered or deregistered, etcd
//! is asked once more ([`Peers::confirm`]).
//!
//! *Tables that differ.* An instance is checked by one of those registries whose table has it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery::{InstanceKey, LeaseId, Ttl};
use discovery_etcd::{Etcd, EtcdError};
use service_kit::chain;
use tokio::{
    sync::{Mutex as TurnMutex, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::announcement::{Announcement, PREFIX, checker_of};

/// How long a registry is there for the others without a word of it: as short as etcd's leases can be.
const TTL: Ttl = Ttl::MIN;
/// How often it says so, and looks for the others.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long a registry has been there without a gap: the lease that it is known by.
pub(super) type Term = LeaseId;

/// A handle. Cheap to clone; clones see the same.
#[derive(Debug, Clone)]
pub(super) struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    etcd: Etcd,
    /// Drawn at random; what this registry's key is called.
    id: String,
    wanted: Mutex<Announcement>,
    /// Locked while etcd is asked.
    presence: TurnMutex<Option<Presence>>,
    view: watch::Sender<Arc<View>>,
}

/// This registry's key.
#[derive(Debug, Clone)]
struct Presence {
    lease: LeaseId,
    /// What the key says; `None`: an answer was lost, so that is not known.
    written: Option<Arc<Announcement>>,
    /// When it was written.
    at: Instant,
}

/// Which registries were there when etcd was last asked.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) members: BTreeMap<String, Announcement>,
    /// Our own lease, if etcd said that it lives, and when it was asked.
    confirmed: Option<(Term, Instant)>,
}

/// Gives this registry's key up when it is dropped: the others need not wait for its lease to end.
struct Leaving(Arc<Inner>);

// === impl Peers ===

impl Peers {
    /// Nothing is known yet, and nothing announced.
    pub(super) fn new(etcd: Etcd, listen: String) -> Self {
        let id = format!("{:016x}", rand::random::<u64>());
        let wanted = Mutex::new(Announcement { listen, ..Announcement::default() });
        let view = watch::Sender::new(Arc::default());
        Self(Arc::new(Inner { etcd, id, wanted, presence: TurnMutex::default(), view }))
    }

    /// From now on this registry says that of itself.
    pub(super) fn announce(&self, change: impl FnOnce(&mut Announcement)) {
        change(&mut self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Which registries are there, now and later.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.0.view.subscribe()
    }

    /// Which were there at the last look.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.view.borrow())
    }

    /// For which term this registry checks the instance, as far as it is known.
    pub(super) fn term_of(&self, key: &InstanceKey) -> Option<Term> {
        let view = self.view();
        let (term, _) = view.confirmed?;
        (view.checker(&name(key)) == Some(&self.0.id)).then_some(term)
    }

    /// Whether this registry checks the instance, has done so since `term` began, and may act for it.
    pub(super) fn is_ours(&self, key: &InstanceKey, term: Term) -> bool {
        self.view().is_current() && self.term_of(key) == Some(term)
    }

    /// The same, by etcd itself and at this moment.
    pub(super) async fn confirm(&self, key: &InstanceKey, term: Term) -> bool {
        match self.look().await {
            Ok(()) => self.is_ours(key, term),
            Err(error) => {
                tracing::debug!(%key, error = %chain(&error), "cannot confirm that this registry checks the instance");
                false
            }
        }
    }

    /// Whether another registry had the instance in its table at the last look.
    pub(super) fn has_other(&self, key: &InstanceKey) -> bool {
        self.view().has_other(&self.0.id, &name(key))
    }

    /// Whether no other registry has the instance in its table, by etcd itself and at this moment.
    pub(super) async fn are_without(&self, key: &InstanceKey) -> bool {
        self.look().await.is_ok() && {
            let view = self.view();
            view.is_current() && !view.has_other(&self.0.id, &name(key))
        }
    }

    /// Goes on for as long as it is polled.
    pub(super) async fn run(self) -> Infallible {
        let _leaving = Leaving(Arc::clone(&self.0));
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            let looked = self.look().await;
            match &looked {
                Err(error) if !is_failing => {
                    tracing::warn!(error = %chain(error), "cannot agree with other registries on which of them checks the table");
                }
                Err(_) | Ok(()) => {}
            }
            is_failing = looked.is_err();
        }
    }

    /// Says that this registry is there, and looks for the others. Of many that want this at the same time, one does it
    /// for all.
    async fn look(&self) -> Result<(), EtcdError> {
        let inner = &*self.0;
        let wanted = Instant::now();
        let mut presence = inner.presence.lock().await;
        if self.view().confirmed.is_some_and(|(_, asked)| asked > wanted) {
            return Ok(());
        }
        let asked = Instant::now();
        let before = presence.as_ref().map(|mine| mine.lease);
        // At the same time: where etcd takes most of a second for an answer, two in turn would take as long as the
        // lease lasts.
        let (term, listed) = tokio::join!(inner.stay(&mut presence), inner.list());
        let term = term?;
        let mut members = match term == before {
            true => listed?,
            // Two that begin at once: at least one of them sees the other.
            false => inner.list().await?,
        };
        if let Some(said) = presence.as_ref().and_then(|mine| mine.written.clone()) {
            // It may have been written after the others were listed.
            members.insert(inner.id.clone(), Arc::unwrap_or_clone(said));
        }
        inner.view.send_replace(Arc::new(View { members, confirmed: term.map(|term| (term, asked)) }));
        Ok(())
    }
}

// === impl Inner ===

impl Inner {
    fn key(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }

    /// What all of them say.
    async fn list(&self) -> Result<BTreeMap<String, Announcement>, EtcdError> {
        let listed = self.etcd.list_foreign(PREFIX).await?;
        let members = listed.keys.iter().filter_map(|one| {
            let id = std::str::from_utf8(&one.key).ok()?.strip_prefix(PREFIX)?;
            let said = serde_json::from_slice(&one.value);
            let said =
                said.inspect_err(|error| tracing::debug!(id, %error, "invalid key of a registry, skipped")).ok()?;
            Some((id.to_owned(), said))
        });
        Ok(members.collect())
    }

    /// Keeps the key, or takes it; the term for which this registry has it.
    async fn stay(&self, presence: &mut Option<Presence>) -> Result<Option<Term>, EtcdError> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A copy: this future may be dropped on the way, and the key lives on.
        if let Some(mine) = presence.clone() {
            // At the same time, for the reason of `look`.
            let (alive, said) = tokio::join!(self.etcd.keep_alive(mine.lease), self.say(&wanted, mine));
            *presence = said;
            match alive {
                Ok(_) => {}
                Err(EtcdError::LeaseNotFound { .. }) => *presence = None,
                Err(error) => return Err(error),
            }
            if let Some(mine) = presence {
                return Ok(Some(mine.lease));
            }
            tracing::warn!("this registry was dead to the others that have a table; its checks begin again");
        }
        let lease = self.etcd.campaign(&self.key(), &text(&wanted), TTL).await?;
        let written = Some(Arc::new(wanted));
        *presence = lease.map(|lease| Presence { lease, written, at: Instant::now() });
        Ok(lease)
    }

    /// Writes `wanted` if it is time for that; `None` when the key does not live any more.
    async fn say(&self, wanted: &Announcement, mine: Presence) -> Option<Presence> {
        if mine.written.as_ref().is_some_and(|written| !wanted.replaces(written, mine.at.elapsed())) {
            return Some(mine);
        }
        let written = match self.etcd.restate(&self.key(), &text(wanted), mine.lease).await {
            Ok(true) => Some(Arc::new(wanted.clone())),
            Ok(false) => return None,
            // An etcd that is full keeps leases alive and writes nothing. What is announced may be old then, and this
            // registry is still there.
            Err(error) => {
                tracing::debug!(error = %chain(&error), "cannot write what this registry checks");
                None
            }
        };
        Some(Presence { written, at: Instant::now(), ..mine })
    }
}

fn text(said: &Announcement) -> String {
    serde_json::to_string(said).expect("maps of strings always become JSON")
}

// === impl View ===

impl View {
    /// Whether our own lease is known to live.
    fn is_current(&self) -> bool {
        self.confirmed.is_some_and(|(_, asked)| asked.elapsed() < TTL.get())
    }

    /// The id of the registry that checks the instance `name`.
    pub(super) fn checker(&self, name: &str) -> Option<&String> {
        let having =
            self.members.iter().filter(|(_, said)| said.instances.contains_key(name)).map(|(id, _)| id.as_str());
        let chosen = checker_of(having, name)?;
        self.members.get_key_value(chosen).map(|(id, _)| id)
    }

    /// Whether a registry other than `id` has it in its table.
    pub(super) fn has_other(&self, id: &str, name: &str) -> bool {
        self.members.iter().any(|(other, said)| other != id && said.instances.contains_key(name))
    }
}

/// `mysql/db-1`
pub(super) fn name(key: &InstanceKey) -> String {
    let id = key.instance.as_ref().map_or("", discovery::InstanceId::as_str);
    format!("{}/{id}", key.service)
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::clone(&self.0);
            runtime.spawn(async move {
                if let Some(Presence { lease, .. }) = inner.presence.lock().await.take() {
                    let _ = inner.etcd.resign(&inner.key(), lease).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(members: &[(&str, &[&str])], confirmed: Option<(Term, Instant)>) -> View {
        let said = |names: &[&str]| {
            let instances = names.iter().map(|name| ((*name).to_owned(), "digest".to_owned())).collect();
            Announcement { instances, ..Announcement::default() }
        };
        let members = members.iter().map(|(id, names)| ((*id).to_owned(), said(names))).collect();
        View { members, confirmed }
    }

    #[test]
    fn only_a_registry_that_has_the_instance_checks_it() {
        let view = view(&[("a", &["db/1"]), ("b", &["db/1", "db/2"]), ("c", &[])], None);
        assert_eq!(view.checker("db/2").map(String::as_str), Some("b"));
        assert!(view.checker("db/1").is_some_and(|checker| checker != "c"));
        assert_eq!(view.checker("db/3"), None);
        assert!(view.has_other("a", "db/2") && !view.has_other("b", "db/2"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_lease_is_no_right_to_act() {
        let view = view(&[], Some((LeaseId(1), Instant::now())));
        assert!(view.is_current());
        tokio::time::advance(TTL.get()).await;
        assert!(!view.is_current());
    }
}
