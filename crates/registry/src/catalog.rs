//! What is registered, for all readers: lists, long polls, event streams, DNS, other systems' formats.
//!
//! A reader gets a [`ServiceView`]: everything about one service as one immutable value behind an `Arc`. It is built when
//! first asked for and kept until something about the service changes, so that asking costs a lock for a moment and one
//! count, however many ask.
//!
//! | question | answer |
//! |---|---|
//! | who is there? | [`Catalog::service`], [`Catalog::services`] |
//! | may I believe that? | [`Catalog::sync`]: never loaded, stale for so long, or fresh |
//! | has it changed since? | [`Catalog::index`], the etcd revision of the last event of that [`Topic`] |
//! | tell me when it does | [`Catalog::subscribe`], [`Catalog::wait`]: woken by that topic and by no other |
//!
//! All of it comes from the one watch that feeds the [`Mirror`]: a thousand waiters cost etcd nothing.
//!
//! *What an index is.* It starts at the revision of the first list, because what happened before is not known. From then
//! on every change of the topic raises it to the revision of the event, or by one where two events came out of order (the
//! watch follows `service/` and `override/` separately). It never goes back, but for an etcd that was wiped: then
//! everything starts again at the revision of the new list, and every subscriber is notified.

use std::{sync::Arc, time::Duration};

use discovery::{InstanceId, InstanceKey, Override, Revision, ServiceName};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::RegistryError,
    mirror::{Mirror, ServiceView, Subscription, Topic},
};

/// Reads what is known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    mirror: Mirror,
}

/// How far what is known can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Nothing has ever been read from etcd: an empty list would be wrong.
    Never,
    /// The time since etcd's last answer, when what is known was true.
    Stale(Duration),
    /// As good as etcd's own answer; the time since its last word.
    Fresh(Duration),
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The topic is not as the caller knew it, or the caller knew another history.
    Changed,
    /// The time is over.
    TimedOut,
}

// === impl Catalog ===

impl Catalog {
    /// Reads from `mirror`.
    pub fn new(mirror: Mirror) -> Self {
        Self { mirror }
    }

    /// Everything about one service. `None` when it has no instance and none died within [`KEPT_FOR`](crate::mirror::KEPT_FOR): then nothing is
    /// known of it, or, by [`Catalog::sync`], of any.
    pub fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>> {
        self.mirror.read().service(name)
    }

    /// Every service that has an instance, in the order of their names.
    pub fn services(&self) -> Vec<Arc<ServiceView>> {
        self.read_all().1
    }

    /// [`Catalog::service`] and [`Catalog::index`] at the same moment.
    pub fn read(&self, name: &ServiceName) -> (Revision, Option<Arc<ServiceView>>) {
        let view = self.mirror.read();
        let service = view.service(name);
        // What is not remembered has the same index as everything that is not.
        let index = service.as_ref().map_or_else(|| view.index(&Topic::Service(name.clone())), |view| view.index);
        (index, service)
    }

    /// Every service that has an instance, or lost its last one within [`KEPT_FOR`](crate::mirror::KEPT_FOR); and the index, as [`Catalog::read_all`].
    pub fn read_remembered(&self) -> (Revision, Vec<Arc<ServiceView>>) {
        let view = self.mirror.read();
        (view.index(&Topic::Services), view.services().collect())
    }

    /// [`Catalog::services`] and the index of [`Topic::Services`] at the same moment.
    pub fn read_all(&self) -> (Revision, Vec<Arc<ServiceView>>) {
        let view = self.mirror.read();
        let services = view.services().filter(|service| !service.instances.is_empty()).collect();
        (view.index(&Topic::Services), services)
    }

    /// Every instance of any service with this id; also those that this replica has just registered.
    pub fn with_id(&self, id: &InstanceId) -> Vec<InstanceKey> {
        self.mirror.read().with_id(id)
    }

    /// Every operator's word, and whether an instance is registered that it is for. Not those whose life has ended: a
    /// registry deletes them soon.
    pub fn overrides(&self) -> Vec<(InstanceKey, Override, bool)> {
        let view = self.mirror.read();
        let of = |(key, order): (&InstanceKey, &Override)| {
            let in_force = view.seen(key).is_some_and(|held| order.applies_to(held.lease));
            (in_force || order.incarnation.is_none()).then(|| (key.clone(), order.clone(), in_force))
        };
        view.overrides().filter_map(of).collect()
    }

    /// Every instance of any service with this entry of `meta`; also those that this replica has just registered.
    pub fn with_meta(&self, name: &str, value: &str) -> Vec<InstanceKey> {
        self.mirror.read().with_meta(name, value)
    }

    /// How far that can be believed.
    pub fn sync(&self) -> Sync {
        match self.mirror.age() {
            None => Sync::Never,
            Some(age) if self.mirror.is_fresh() => Sync::Fresh(age),
            Some(age) => Sync::Stale(age),
        }
    }

    /// How long ago etcd last confirmed what is known.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotLoaded`] when nothing has ever been.
    pub fn age(&self) -> Result<Duration, RegistryError> {
        self.mirror.age().ok_or(RegistryError::NotLoaded)
    }

    /// As [`Catalog::age`], for readers who cannot tell old from new, and keep what they have when they get nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotLoaded`], and [`RegistryError::Stale`] when etcd cannot be read now.
    pub fn fresh(&self) -> Result<Duration, RegistryError> {
        match self.sync() {
            Sync::Never => Err(RegistryError::NotLoaded),
            Sync::Stale(age) => Err(RegistryError::Stale(age)),
            Sync::Fresh(age) => Ok(age),
        }
    }

    /// The etcd revision up to which everything is known.
    pub fn revision(&self) -> Revision {
        self.mirror.read().revision()
    }

    /// The etcd revision of the topic's last event; see the module's words.
    pub fn index(&self, topic: &Topic) -> Revision {
        self.mirror.read().index(topic)
    }

    /// Gets woken whenever the topic changes. Look after subscribing, or a change in between is missed.
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        self.mirror.notifier().subscribe(topic)
    }

    /// Waits until the topic is not as it was at `seen`, at most until `until`.
    ///
    /// Returns at once when it is not so already, or when `seen` is of a history that this registry does not know: from
    /// the future, or of an etcd that has been wiped since.
    pub async fn wait(&self, topic: Topic, seen: Revision, until: Instant) -> Waited {
        let mut subscription = self.subscribe(topic);
        loop {
            if self.mirror.read().is_news(subscription.topic(), seen) {
                return Waited::Changed;
            }
            if timeout_at(until, subscription.changed()).await.is_err() {
                return Waited::TimedOut;
            }
        }
    }
}

// === impl Sync ===

impl Sync {
    /// Whether what is known can be taken for what is.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh(_))
    }

    /// The time since etcd's last word; `None`: it has never said anything.
    pub fn age(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Stale(age) | Self::Fresh(age) => Some(age),
        }
    }
}
