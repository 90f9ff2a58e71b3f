//! Whether a request is taken at all: who asks, how often, for which service, and which address is announced.
//!
//! ```text
//! request ─▶ rate (this client)  ─▶ token or signature ─▶ scope of the path ─▶ handler
//!            429 rate_limited        401                   403 out_of_scope      │ a heartbeat
//!                                                                                ▼
//!            scope of its service ─▶ address allowed? ─▶ the sender's own? ─▶ room for one more? ─▶ is it there? ─▶ etcd
//!            403                     422 (503)           422                  429                   422
//! ```
//!
//! | room | what it settles |
//! |---|---|
//! | [`options`] | what is configured |
//! | [`access`] | the layer around all routes: rate, and which path needs which scope |
//! | [`rate`] | a token bucket for each client, in bounded memory |
//! | [`networks`] | which addresses may be announced; some never are |
//! | [`infrastructure`] | the registry itself, etcd, admin sides: no instances |
//! | [`names`] | host names: resolved and held to the same rules, or refused |
//! | [`proof`] | asking the address whether the instance listens there |
//! | [`quotas`] | instances a service, services a token, bytes of both |
//! | [`writes`], [`budget`], [`bound`] | changes and bytes a minute: of a key, of a token, of all; which bound is which option |
//! | [`denied`] | every refusal, as an error and as a problem |
//!
//! What passes and changes something is metered where it is written ([`writes`]): 429.
//!
//! The second half is asked by the [`Registrar`](crate::registrar::Registrar) itself, so that no other way of registering
//! (another system's API, say) goes around it. An instance that is registered already with the same address passes with
//! two look-ups: a steady heartbeat stays cheap, and tightening the rules does not throw out who is there.

pub mod access;
pub mod bound;
pub mod budget;
pub mod denied;
pub mod infrastructure;
pub mod names;
pub mod networks;
pub mod options;
pub mod proof;
pub mod quotas;
pub mod rate;
pub mod writes;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use discovery::{Address, Host, Instance, InstanceKey};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use service_kit::{
    names::Names as Lookups,
    tokens::{Action, Caller},
};

use self::{
    bound::Bound,
    denied::Reason,
    names::HostnamePolicy,
    networks::Networks,
    proof::Proof,
    quotas::Quotas,
    rate::Rates,
    writes::{Kind, Reservation, Writes},
};
pub use self::{denied::Denied, infrastructure::Infrastructure, options::AdmissionOptions};
use crate::mirror::{Mirror, state::bytes_in_etcd};

tokio::task_local! {
    /// Where the request that is being served came from.
    static CLIENT: IpAddr;
}

/// Decides. Cheap to clone; clones share what they count.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    infrastructure: Infrastructure,
    networks: Networks,
    names: HostnamePolicy,
    source_match: bool,
    /// If it is asked for.
    proof: Option<Proof>,
    quotas: Quotas,
    rates: Rates,
    writes: Writes,
    mirror: Mirror,
    denied: Family<ReasonLabel, Counter>,
    writes_refused: Family<BoundLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabel {
    bound: Bound,
}

/// Where the request that this task serves came from; `None` outside of one.
#[must_use]
pub fn client() -> Option<IpAddr> {
    CLIENT.try_with(|client| *client).ok()
}

// === impl Admission ===

impl Admission {
    /// For a registry that listens on `listen` and registers `registry_denied_total{reason}`,
    /// `registry_writes_refused_total{bound}` and what [`Writes::new`] does. What it never takes as an instance is
    /// `infrastructure`.
    pub fn new(
        options: &AdmissionOptions,
        listen: SocketAddr,
        infrastructure: Infrastructure,
        mirror: Mirror,
        metrics: &mut Registry,
    ) -> Self {
        let denied = Family::default();
        metrics.register("registry_denied", "Requests refused by what is configured", denied.clone());
        let writes_refused = Family::default();
        let help = "Writes refused because a bound of writes was reached";
        metrics.register("registry_writes_refused", help, writes_refused.clone());
        let quotas = Quotas::new(options.instances_max, options.services_per_token_max, &options.writes);
        Self(Arc::new(Inner {
            infrastructure,
            networks: Networks::new(&options.allow_networks, listen.ip()),
            names: HostnamePolicy::new(options.allow_names, Lookups::new(options.name_servers.clone())),
            source_match: options.source_match,
            proof: options.prove_address.then(Proof::default),
            quotas,
            rates: Rates::new(options.client_rate),
            writes: Writes::new(&options.writes, metrics),
            mirror,
            denied,
            writes_refused,
        }))
    }

    /// Whether the sender of this request may announce `instance` as `key`.
    ///
    /// # Errors
    ///
    /// Which rule forbids it.
    pub async fn admit(&self, key: &InstanceKey, instance: &Instance) -> Result<(), Denied> {
        self.authorize(key, Action::Register)?;
        if self.is_registered_at(key, &instance.address) {
            return Ok(());
        }
        // Boxed: large, and rare.
        Box::pin(self.decide(key, instance)).await.inspect_err(|denied| self.count(denied))
    }

    /// Whether an instance at `address` may be taken over from another framework's registration. Who wrote that into etcd
    /// is not known, and its program knows nothing of us: there is no sender to compare with, and no proof to ask for.
    ///
    /// # Errors
    ///
    /// [`Denied::Infrastructure`], [`Denied::Address`], [`Denied::Name`], [`Denied::Unresolved`].
    pub async fn admit_import(&self, address: &Address) -> Result<(), Denied> {
        let ips = self.addresses(address).await?;
        self.0.infrastructure.check(address, &ips).await?;
        self.0.networks.check(address, &ips)
    }

    /// Whether the table may name `instance`: the operator's word, so in any network, but never at an address that is no
    /// service's. One that is registered already with this address passes without a look-up.
    ///
    /// # Errors
    ///
    /// [`Denied::Infrastructure`], [`Denied::Address`], [`Denied::Name`], [`Denied::Unresolved`].
    pub async fn admit_checked(&self, key: &InstanceKey, instance: &Instance) -> Result<(), Denied> {
        if self.is_registered_at(key, &instance.address) {
            return Ok(());
        }
        let ips = self.addresses(&instance.address).await?;
        self.0.infrastructure.check(&instance.address, &ips).await?;
        self.0.networks.check_any(&ips)
    }

    /// Whether the sender of this request may do `action` to `key`'s service. Our own tasks may.
    ///
    /// # Errors
    ///
    /// [`Denied::Scope`].
    pub fn authorize(&self, key: &InstanceKey, action: Action) -> Result<(), Denied> {
        let Some(caller) = Caller::current() else { return Ok(()) };
        let required = caller.require(key.service.as_str(), action).map_err(|problem| Denied::Scope(Box::new(problem)));
        required.inspect_err(|denied| self.count(denied))
    }

    /// Makes room for writing `instance` under `key`: `bytes` of keys and values, in all dialects.
    ///
    /// # Errors
    ///
    /// [`Denied::Stored`], [`Denied::Writes`].
    pub fn reserve(&self, key: &InstanceKey, instance: &Instance, bytes: usize) -> Result<Reservation, Denied> {
        let fits = self.0.quotas.fits(&self.0.mirror.read(), key, bytes_in_etcd(key, instance));
        let reserved = fits.and_then(|()| self.0.writes.reserve(Kind::Instances, key.key(), bytes));
        reserved.inspect_err(|denied| self.count(denied))
    }

    /// Makes room for writing an override of `key`: `bytes` of its value.
    ///
    /// # Errors
    ///
    /// [`Denied::Overrides`], [`Denied::Writes`].
    pub fn reserve_override(&self, key: &InstanceKey, bytes: usize) -> Result<Reservation, Denied> {
        let fits = self.0.quotas.check_override(&self.0.mirror.read(), key).inspect_err(|denied| self.count(denied));
        let override_key = key.override_key();
        let bytes = override_key.len() + bytes;
        fits.and_then(|()| self.reserve_key(Kind::Instances, override_key, bytes))
    }

    /// Makes room for writing `bytes` under another key than an instance's.
    ///
    /// # Errors
    ///
    /// [`Denied::Writes`].
    pub fn reserve_key(&self, kind: Kind, key: String, bytes: usize) -> Result<Reservation, Denied> {
        self.0.writes.reserve(kind, key, bytes).inspect_err(|denied| self.count(denied))
    }

    fn is_registered_at(&self, key: &InstanceKey, address: &Address) -> bool {
        let state = self.0.mirror.read();
        state.seen(key).and_then(|seen| seen.instance).is_some_and(|known| known.address == *address)
    }

    /// Whether `instance` may be announced that is not registered with this address already.
    async fn decide(&self, key: &InstanceKey, instance: &Instance) -> Result<(), Denied> {
        let inner = &*self.0;
        let address = &instance.address;
        let is_known = inner.mirror.read().seen(key).is_some();
        let ips = self.addresses(address).await?;
        inner.infrastructure.check(address, &ips).await?;
        inner.networks.check(address, &ips)?;
        self.check_source(address, &ips)?;
        if !is_known {
            let caller = Caller::current();
            let token = caller.as_ref().and_then(Caller::name);
            inner.quotas.check(&inner.mirror.read(), &key.service, token)?;
        }
        match &inner.proof {
            Some(proof) => proof.ask(key, instance, &ips).await,
            None => Ok(()),
        }
    }

    /// Every IP address that the announced one stands for; empty for a name that is taken as it is.
    async fn addresses(&self, address: &Address) -> Result<Vec<IpAddr>, Denied> {
        match &address.host {
            Host::V4(ip) => Ok(vec![(*ip).into()]),
            Host::V6(ip) => Ok(vec![(*ip).into()]),
            Host::Name(name) => self.0.names.resolve(name.as_str()).await,
        }
    }

    fn check_source(&self, address: &Address, ips: &[IpAddr]) -> Result<(), Denied> {
        let Ok(client) = CLIENT.try_with(|client| *client) else { return Ok(()) };
        let is_own = ips.iter().any(|ip| ip.to_canonical() == client);
        if self.0.source_match && !is_own {
            return Err(Denied::Source { address: address.clone(), client });
        }
        Ok(())
    }

    /// Counts a refusal.
    pub fn count(&self, denied: &Denied) {
        if let Some(bound) = denied.bound() {
            self.0.writes_refused.get_or_create(&BoundLabel { bound }).inc();
        }
        self.0.denied.get_or_create(&ReasonLabel { reason: denied.reason() }).inc();
    }
}
