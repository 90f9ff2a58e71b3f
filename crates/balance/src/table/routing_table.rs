//! Service → instances: what every request reads.
//!
//! The table is an immutable snapshot. Only [`crate::discovery::watcher`] makes a new one, and puts it in place with
//! one atomic swap, so that no request ever sees half a change and none ever waits for one. What must survive a swap
//! (what traffic has taught about an instance, whose turn it is, counters) is shared by the old table and the new one.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};

use arc_swap::{ArcSwap, Cache};
use discovery::{Address, InstanceKey, Reason, Revision, Scheme, ServiceName, Status, policy::Policy};
use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{jwt::key_set::KeySet, key_fetcher, keys::KeyRing, rules::Access},
    addresses::Forbidden,
    clock::Moment,
    instance::candidate::Candidate,
    load_balancing::balancer::Balancer,
    table::{name_map::NameMap, tombstones::Tombstone},
};

/// Everything a request needs to know, at one revision of etcd.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// Where this comes from.
    pub source: Source,
    /// The revision of etcd that it mirrors.
    pub revision: Revision,
    services: NameMap<Arc<Service>>,
    /// The policies that are in etcd, also those of services that never had an instance.
    policies: Arc<NameMap<Arc<Policy>>>,
    /// The keys of the issuers whose tokens services take, by service.
    key_sets: Arc<BTreeMap<ServiceName, Arc<KeySet>>>,
    /// How many services have a policy in etcd that is invalid.
    pub(crate) policies_broken: usize,
    /// The API keys in force.
    keys: Arc<KeyRing>,
}

/// Where a table comes from, and thereby what a missing service means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// From nowhere yet: etcd has not been reached, and nothing is known about any service.
    #[default]
    Nothing,
    /// From the disk, saved at that time by an earlier run: better than nothing until etcd is reached.
    Disk(SystemTime),
    /// From etcd.
    Etcd,
}

/// A service that has, or had, instances.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What is cut off the path for it, `/mail`, as a header value.
    pub(crate) prefix: HeaderValue,
    /// What a pick needs to know of it.
    pub(crate) balancer: Balancer,
    /// Those among the candidates, by serial number, whose keys vanished together with many others.
    pub(crate) unregistered: BTreeSet<u64>,
    pub(crate) withheld: Arc<[ExcludedInstance]>,
    /// The instances that went, the oldest first.
    pub(crate) tombstones: Vec<Tombstone>,
    /// What it asks of its clients; `None`: nothing.
    pub(crate) access: Option<Arc<Access>>,
}

/// A registered instance that gets no requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExcludedInstance {
    pub(crate) key: InstanceKey,
    pub(crate) address: Address,
    pub(crate) why: ExclusionReason,
    /// What the instance says about its status, if that is why.
    pub(crate) reason: Option<Reason>,
}

/// Why a registered instance gets no requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExclusionReason {
    /// It says so itself.
    Status(Status),
    /// An operator says so.
    Operator(Status),
    /// Its address must not be used.
    Address(Forbidden),
    /// It speaks a protocol that this gateway does not speak (yet).
    Scheme(Scheme),
}

// === impl RoutingTable ===

impl RoutingTable {
    pub(crate) fn new(source: Source, revision: Revision, services: NameMap<Arc<Service>>) -> Self {
        Self { source, revision, services, ..Self::default() }
    }

    pub(crate) fn with_broken_policies(mut self, policies_broken: usize) -> Self {
        self.policies_broken = policies_broken;
        self
    }

    pub(crate) fn with_policies(mut self, policies: Arc<NameMap<Arc<Policy>>>) -> Self {
        self.policies = policies;
        self
    }

    pub(crate) fn with_keys(mut self, keys: Arc<KeyRing>) -> Self {
        self.keys = keys;
        self
    }

    pub(crate) fn with_key_sets(mut self, key_sets: Arc<BTreeMap<ServiceName, Arc<KeySet>>>) -> Self {
        self.key_sets = key_sets;
        self
    }

    /// The keys of the issuers whose tokens services take.
    pub(crate) fn key_sets(&self) -> Vec<Arc<KeySet>> {
        self.key_sets.values().cloned().collect()
    }

    /// The API keys in force.
    pub(crate) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// What `config/<name>` says, over the gateway's defaults.
    pub(crate) fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name).map(AsRef::as_ref)
    }

    /// The service of that name, if it has or had instances.
    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name).map(AsRef::as_ref)
    }

    /// All services by name, to be compared with those of another table.
    pub(crate) fn by_name(&self) -> &NameMap<Arc<Service>> {
        &self.services
    }

    /// All services, in the order of their names.
    pub(crate) fn services(&self) -> Vec<&Service> {
        let mut services: Vec<&Service> = self.services.values().map(AsRef::as_ref).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }
}

// === impl Service ===

impl Service {
    pub(crate) fn empty(name: ServiceName, cores: usize) -> Self {
        let prefix = HeaderValue::try_from(format!("/{name}")).expect("a DNS label is visible ASCII");
        Self {
            name,
            prefix,
            balancer: Balancer::empty(cores),
            unregistered: BTreeSet::new(),
            withheld: Arc::default(),
            tombstones: Vec::new(),
            access: None,
        }
    }

    /// How its requests are treated: what `config/<service>` says, and the gateway's defaults for all else.
    pub(crate) fn policy(&self) -> &Arc<Policy> {
        self.balancer.policy()
    }

    /// Whether an instance of it is registered, in rotation or not.
    pub(crate) fn is_registered(&self) -> bool {
        self.balancer.candidates.all().len() > self.unregistered.len() || !self.withheld.is_empty()
    }

    /// Whether a candidate is used although it is not registered at the moment.
    pub(crate) fn is_kept(&self, candidate: &Candidate) -> bool {
        self.unregistered.contains(&candidate.serial)
    }
}

// === reading and writing ===

/// The place of the table in force. Cheap to clone; all clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct TableHandle(Arc<ArcSwap<RoutingTable>>);

/// One core's view of it: reading is a comparison of two pointers, and holding the result touches no shared counter.
#[derive(Debug)]
pub(crate) struct CoreTable {
    newest: RefCell<Cache<Arc<ArcSwap<RoutingTable>>, Arc<RoutingTable>>>,
    held: RefCell<Rc<TableRef>>,
}

/// A table that a core holds on to: counted by the core for its requests, and once among the cores.
#[derive(Debug)]
pub(crate) struct TableRef(Arc<RoutingTable>);

impl TableHandle {
    /// The place, with a table from nowhere in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The table in force.
    #[must_use]
    pub fn load(&self) -> Arc<RoutingTable> {
        self.0.load_full()
    }

    /// Reads the keys of token issuers, for the services of whichever table is in force, until `shutdown`.
    pub async fn keep_issuers_keys(self, shutdown: CancellationToken) {
        key_fetcher::run(|| self.load().key_sets(), Moment::now, shutdown).await;
    }

    /// Puts `table` in force, at once and for every core; returns the one before. A core may hold that one still, until its
    /// next request and for as long as a request lasts.
    pub fn publish(&self, table: Arc<RoutingTable>) -> Arc<RoutingTable> {
        self.0.swap(table)
    }
}

impl CoreTable {
    pub(crate) fn new(shared: TableHandle) -> Self {
        let held = RefCell::new(Rc::new(TableRef(shared.load())));
        Self { newest: RefCell::new(Cache::new(shared.0)), held }
    }

    /// The table in force.
    pub(crate) fn load(&self) -> Rc<TableRef> {
        let mut newest = self.newest.borrow_mut();
        let (newest, mut held) = (newest.load(), self.held.borrow_mut());
        if !Arc::ptr_eq(newest, &held.0) {
            *held = Rc::new(TableRef(Arc::clone(newest)));
        }
        Rc::clone(&held)
    }
}

impl Deref for TableRef {
    type Target = RoutingTable;

    fn deref(&self) -> &RoutingTable {
        &self.0
    }
}
