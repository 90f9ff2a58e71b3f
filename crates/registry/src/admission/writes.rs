//! How much may be written to etcd.
//!
//! etcd keeps every change until it compacts its history, and stops taking any when its quota is used up. So writes are metered, in
//! changes and in bytes, in three circles:
//!
//! | circle | of registrations | of settings |
//! |---|---|---|
//! | one key | `--instance-writes` | `--setting-writes` |
//! | one token, or one client network where there are no tokens | `--token-instance-writes` | `--token-setting-writes` |
//! | all together | `--all-instance-writes` | `--all-setting-writes` |
//!
//! Each is a [bucket](service_kit::token_bucket) that holds [`MINUTES_AT_ONCE`] minutes' worth, so that a fleet can come back at once. A heartbeat
//! that changes nothing writes nothing and costs nothing. A deletion costs nothing either: there is one at most for each write, and an
//! instance that leaves must not be held back. What is refused, or fails in etcd, is given back, also when only the
//! answer is missing: otherwise an outage of etcd, in which every instance tries again and again, would use up what its return
//! needs.
//!
//! What lives in etcd at the same time has bounds, too: [`super::quotas`] for registrations, [`crate::settings`] for settings.
//! The defaults of three registries fit into 512 MiB with a history of one to two hours, which is what `muster up` and
//! `docker-compose.yml` give etcd.

use std::{future::Future, hash::Hash, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use service_kit::{
    connections::ClientNetwork,
    token_bucket::{RateLimit, TokenBuckets},
    tokens::Caller,
};
use tokio::time::Instant;

use super::{CLIENT, bound::Bound, budget::Budget, denied::Denied, options::WriteOptions};

/// How many minutes' worth may be written at once.
pub const MINUTES_AT_ONCE: f64 = 20.0;

/// What a change costs in etcd beside its key and value: revisions, index, lease. In bytes.
const CHANGE_BYTES: usize = 128;

/// How many keys, and how many payers, are told apart: about 10 MiB each.
const HOLDERS_MAX: usize = 65_536;

tokio::task_local! {
    /// Who pays, in a task that goes on when its request is answered.
    static PAYER: Option<Payer>;
}

/// Who is charged for what a request writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Payer {
    /// The holder of the token with this name.
    Token(String),
    /// A client, where there are no tokens.
    Network(ClientNetwork),
}

/// What is written: the second half of a ledger's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// Instances, and operators' words about them.
    Instances,
    /// Settings.
    Settings,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: Kind,
}

/// Meters all writes. Clones share what they count.
#[derive(Debug, Clone)]
pub struct Writes {
    instances: Arc<Ledger>,
    settings: Arc<Ledger>,
    changes: Family<KindLabel, Counter>,
    bytes: Family<KindLabel, Counter>,
}

/// What one kind of writes is charged to.
#[derive(Debug)]
struct Ledger {
    kind: Kind,
    keys: Meter<String>,
    payers: Meter<Payer>,
    all: Meter<()>,
}

/// One circle.
#[derive(Debug)]
struct Meter<K> {
    bound: Bound,
    budget: Budget,
    /// Of changes and of bytes.
    buckets: Option<(TokenBuckets<K>, TokenBuckets<K>)>,
}

/// Room for one write. Dropped without [`Reservation::done`], it is given back.
#[derive(Debug)]
#[must_use = "what is dropped is given back"]
pub struct Reservation {
    writes: Writes,
    kind: Kind,
    charge: Option<Charge>,
}

#[derive(Debug)]
struct Charge {
    key: String,
    payer: Option<Payer>,
    bytes: usize,
}

/// Who pays for what this task writes; none for what we write of our own accord.
#[must_use]
pub fn payer() -> Option<Payer> {
    if let Ok(payer) = PAYER.try_with(Clone::clone) {
        return payer;
    }
    let token = Caller::current().and_then(|caller| caller.name().map(|name| Payer::Token(name.to_owned())));
    token.or_else(|| CLIENT.try_with(|client| Payer::Network(ClientNetwork::of(*client))).ok())
}

/// Does `work`, which goes on when the request is answered, at the cost of `payer`.
pub fn paid_by<F: Future>(payer: Option<Payer>, work: F) -> impl Future<Output = F::Output> {
    PAYER.scope(payer, work)
}

// === impl Writes ===

impl Writes {
    /// With these budgets. Registers `registry_changes_total{kind}` and `registry_written_bytes_total{kind}`.
    pub fn new(options: &WriteOptions, metrics: &mut Registry) -> Self {
        let changes = Family::default();
        let bytes = Family::default();
        metrics.register("registry_changes", "Changes written to etcd for clients", changes.clone());
        let help = "Bytes written to etcd for clients, as they are charged";
        metrics.register("registry_written_bytes", help, bytes.clone());
        let instances = Ledger {
            kind: Kind::Instances,
            keys: Meter::new(Bound::Instance, options.instance_writes),
            payers: Meter::new(Bound::TokenInstances, options.token_instance_writes),
            all: Meter::new(Bound::AllInstances, options.all_instance_writes),
        };
        let settings = Ledger {
            kind: Kind::Settings,
            keys: Meter::new(Bound::Setting, options.setting_writes),
            payers: Meter::new(Bound::TokenSettings, options.token_setting_writes),
            all: Meter::new(Bound::AllSettings, options.all_setting_writes),
        };
        Self { instances: Arc::new(instances), settings: Arc::new(settings), changes, bytes }
    }

    /// Makes room for writing `bytes` of key and value under `key`, at the cost of this task's [`payer`].
    ///
    /// # Errors
    ///
    /// [`Denied::Writes`].
    pub fn reserve(&self, kind: Kind, key: String, bytes: usize) -> Result<Reservation, Denied> {
        let charge = Charge { key, payer: payer(), bytes: bytes + CHANGE_BYTES };
        self.ledger(kind).take(&charge, Instant::now())?;
        Ok(Reservation { writes: self.clone(), kind, charge: Some(charge) })
    }

    fn ledger(&self, kind: Kind) -> &Ledger {
        match kind {
            Kind::Instances => &self.instances,
            Kind::Settings => &self.settings,
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// It was written.
    pub fn done(mut self) {
        let Some(charge) = self.charge.take() else { return };
        let label = KindLabel { kind: self.kind };
        self.writes.changes.get_or_create(&label).inc();
        self.writes.bytes.get_or_create(&label).inc_by(u64::try_from(charge.bytes).unwrap_or(u64::MAX));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(charge) = self.charge.take() {
            self.writes.ledger(self.kind).put_back(&charge);
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// All of it, or nothing.
    fn take(&self, charge: &Charge, now: Instant) -> Result<(), Denied> {
        let bytes = charge.size();
        self.keys.take(&charge.key, bytes, now).map_err(|wait| self.denied(&self.keys, charge, wait))?;
        if let Some(payer) = &charge.payer
            && let Err(wait) = self.payers.take(payer, bytes, now)
        {
            self.keys.put_back(&charge.key, bytes);
            return Err(self.denied(&self.payers, charge, wait));
        }
        if let Err(wait) = self.all.take(&(), bytes, now) {
            self.keys.put_back(&charge.key, bytes);
            charge.payer.iter().for_each(|payer| self.payers.put_back(payer, bytes));
            return Err(self.denied(&self.all, charge, wait));
        }
        Ok(())
    }

    fn put_back(&self, charge: &Charge) {
        let bytes = charge.size();
        self.keys.put_back(&charge.key, bytes);
        charge.payer.iter().for_each(|payer| self.payers.put_back(payer, bytes));
        self.all.put_back(&(), bytes);
    }

    fn denied<K>(&self, meter: &Meter<K>, charge: &Charge, retry_after: Duration) -> Denied {
        let bound = meter.bound;
        let budget = meter.budget;
        let whose = match (bound, &charge.payer) {
            (Bound::Instance | Bound::Setting, _) => charge.key.clone(),
            (Bound::TokenInstances | Bound::TokenSettings, Some(Payer::Token(name))) => format!("the token {name}"),
            (Bound::TokenInstances | Bound::TokenSettings, _) => "this client".to_owned(),
            _ if self.kind == Kind::Settings => "the config centre".to_owned(),
            _ => "this registry".to_owned(),
        };
        Denied::Writes { whose, bound, budget, retry_after }
    }
}

// === impl Charge ===

impl Charge {
    /// In the buckets' own unit.
    fn size(&self) -> f64 {
        f64::from(u32::try_from(self.bytes).unwrap_or(u32::MAX))
    }
}

// === impl Meter ===

impl<K: Clone + Eq + Hash> Meter<K> {
    fn new(bound: Bound, budget: Budget) -> Self {
        let buckets = match budget {
            Budget::Unbounded => None,
            Budget::Minute { changes, bytes } => {
                let of = |amount: f64| {
                    TokenBuckets::new(
                        RateLimit { per_second: amount / 60.0, capacity: amount * MINUTES_AT_ONCE },
                        HOLDERS_MAX,
                    )
                };
                // Beyond 2^53 bytes nothing is exact, and nothing is reached.
                #[expect(clippy::cast_precision_loss, reason = "a bound that large is none")]
                let bytes = bytes as f64;
                Some((of(changes.into()), of(bytes)))
            }
        };
        Self { bound, budget, buckets }
    }

    fn take(&self, holder: &K, bytes: f64, now: Instant) -> Result<(), Duration> {
        let Some((changes, sizes)) = &self.buckets else { return Ok(()) };
        changes.take(holder.clone(), 1.0, now)?;
        sizes.take(holder.clone(), bytes, now).inspect_err(|_| changes.put_back(holder, 1.0))
    }

    fn put_back(&self, holder: &K, bytes: f64) {
        if let Some((changes, sizes)) = &self.buckets {
            changes.put_back(holder, 1.0);
            sizes.put_back(holder, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Options {
        #[command(flatten)]
        writes: WriteOptions,
    }

    fn writes(flags: &[&str]) -> Writes {
        let options = Options::try_parse_from([&["registry"], flags].concat()).unwrap();
        Writes::new(&options.writes, &mut Registry::default())
    }

    async fn as_token<T>(name: &str, work: impl FnOnce() -> T) -> T {
        paid_by(Some(Payer::Token(name.to_owned())), async { work() }).await
    }

    /// How many changes of `bytes` are taken, of keys that `key` makes.
    fn taken(writes: &Writes, kind: Kind, bytes: usize, key: impl Fn(usize) -> String) -> usize {
        let write = |n: &usize| writes.reserve(kind, key(*n), bytes).map(Reservation::done).is_ok();
        (0..10_000).take_while(write).count()
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_many_keys_and_many_tokens_have_bounds_of_their_own() {
        let flags = ["--instance-writes=2/1MiB", "--token-instance-writes=4/1MiB", "--all-instance-writes=6/1MiB"];
        let writes = writes(&flags);
        let same = |_| "service/web/a".to_owned();
        let count = as_token("web", || taken(&writes, Kind::Instances, 10, same)).await;
        assert_eq!(count, 40, "twenty minutes' worth of one instance");
        let count = as_token("web", || taken(&writes, Kind::Instances, 10, |n| n.to_string())).await;
        assert_eq!(count, 40, "and of one token, its first instance included");
        let count = as_token("mail", || taken(&writes, Kind::Instances, 10, |n| n.to_string())).await;
        assert_eq!(count, 40, "and of all");
        assert_eq!(as_token("mail", || taken(&writes, Kind::Settings, 10, same)).await, 300, "settings have their own");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(as_token("web", || taken(&writes, Kind::Instances, 10, same)).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_as_well_and_the_refusal_names_its_bound() {
        let writes = writes(&["--setting-writes=100/1KiB"]);
        let write = |bytes| writes.reserve(Kind::Settings, "config/mail/a".to_owned(), bytes).map(Reservation::done);
        write(20 * 1024 - CHANGE_BYTES).unwrap();
        let denied = write(1024 - CHANGE_BYTES).unwrap_err();
        let Denied::Writes { bound, retry_after, .. } = &denied else { panic!("{denied:?}") };
        assert_eq!((*bound, *retry_after), (Bound::Setting, Duration::from_secs(60)));
        assert!(denied.to_string().contains("config/mail/a") && denied.to_string().contains("--setting-writes"));
        tokio::time::advance(Duration::from_secs(60)).await;
        write(1024 - CHANGE_BYTES).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_written_costs_nothing_in_any_circle() {
        let flags = ["--instance-writes=1/1MiB", "--token-instance-writes=1/1MiB", "--all-instance-writes=2/1MiB"];
        let writes = writes(&flags);
        let key = |n: usize| n.to_string();
        for n in 0..100 {
            drop(as_token("web", || writes.reserve(Kind::Instances, key(n % 3), 10)).await.unwrap());
        }
        assert_eq!(as_token("web", || taken(&writes, Kind::Instances, 10, key)).await, 20);
        for n in 0..100 {
            as_token("web", || writes.reserve(Kind::Instances, key(n), 10)).await.unwrap_err();
        }
        assert_eq!(as_token("mail", || taken(&writes, Kind::Instances, 10, key)).await, 20, "refusals charge nobody");
    }
}
