//! Which policy a service has, and where it comes from.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use discovery::{
    FieldError, ServiceName,
    policy::{Policy, PolicyDocument},
};

use super::Instances;
use crate::{
    access::{issued::KnownKeys, jwt::key_set::SavedKeySet, rules::Access},
    load_balancing::effective_policy::{EffectivePolicy, PolicySource},
    table::name_map::NameMap,
};

/// The policies of all services.
#[derive(Debug, Default)]
pub(super) struct Policies {
    default: Arc<Policy>,
    given: BTreeMap<ServiceName, StoredPolicy>,
    /// Those in force, as the table has them.
    shown: Arc<NameMap<Arc<Policy>>>,
    /// How many of those given have a text that is invalid.
    broken: usize,
    /// The issuers' keys that an earlier run had, by their URL.
    saved_key_sets: BTreeMap<String, SavedKeySet>,
    /// Grows when issuers' keys have changed.
    key_set_changes: Arc<AtomicU64>,
}

struct StoredPolicy {
    /// The newest words, good or not.
    text: String,
    /// The last good ones, for the snapshot.
    good: Option<String>,
    /// Where none were good: those for which nothing passes, until there are good ones.
    closed_by: Option<String>,
    effective_policy: EffectivePolicy,
    /// What it asks of clients.
    access: Option<Arc<Access>>,
}

impl fmt::Debug for StoredPolicy {
    /// Without its words, which may have hashes of passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StoredPolicy");
        shown.field("policy", &self.effective_policy).field("access", &self.access).finish_non_exhaustive()
    }
}

// === impl Policies ===

impl Policies {
    pub(super) fn new(default: Policy) -> Self {
        Self { default: Arc::new(default), ..Self::default() }
    }

    pub(super) fn of(&self, service: &ServiceName) -> EffectivePolicy {
        let default = || EffectivePolicy { policy: Arc::clone(&self.default), ..EffectivePolicy::default() };
        self.given.get(service).map_or_else(default, |given| given.effective_policy.clone())
    }

    /// What the service asks of its clients; `None`: nothing.
    pub(super) fn access(&self, service: &ServiceName) -> Option<Arc<Access>> {
        self.given.get(service)?.access.clone()
    }

    /// Those of the services of which something is said.
    pub(super) fn all(&self) -> Arc<NameMap<Arc<Policy>>> {
        Arc::clone(&self.shown)
    }

    /// The services of which something is said.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.given.keys()
    }

    /// How many have a text in etcd that is invalid.
    pub(super) fn broken(&self) -> usize {
        self.broken
    }

    /// Takes in what `config/<service>` says now, `None` for nothing any more; false when that is no news.
    ///
    /// # Errors
    ///
    /// What is wrong with it. The last good words stay in force.
    pub(super) fn set(&mut self, service: &ServiceName, text: Option<String>) -> Result<bool, FieldError> {
        let before = self.take(service);
        let Some(text) = text else {
            let is_news = before.is_some();
            if is_news {
                Arc::make_mut(&mut self.shown).remove(service.as_str());
            }
            return Ok(is_news);
        };
        let before = match before {
            Some(same) if same.text == text => {
                self.put(service, same);
                return Ok(false);
            }
            before => before,
        };
        match PolicyDocument::parse(text.as_bytes()).and_then(|document| document.over(&self.default)) {
            Ok(policy) => {
                let before = before.as_ref().and_then(|before| before.access.as_deref());
                let known = KnownKeys { saved: &self.saved_key_sets, changes: &self.key_set_changes };
                let access = Access::of(service, &policy, before, &known);
                let effective_policy =
                    EffectivePolicy { policy: Arc::new(policy), source: PolicySource::Etcd, mistake: None };
                let good = Some(text.clone());
                let closed_by = None;
                self.put(service, StoredPolicy { good, closed_by, text, effective_policy, access });
                Ok(true)
            }
            Err(mistake) => {
                let good = before.as_ref().and_then(|before| before.good.clone());
                let before_closed = before.as_ref().and_then(|before| before.closed_by.clone());
                // What is closed stays so: the newer text says no more of who may pass than the one before.
                let access = match (&good, &before_closed) {
                    (Some(_), _) | (None, Some(_)) => before.as_ref().and_then(|before| before.access.clone()),
                    (None, None) => Access::of_mistaken(&text),
                };
                let closes = || (good.is_none() && access.is_some()).then(|| text.clone());
                let closed_by = before_closed.or_else(closes);
                let default = || EffectivePolicy { policy: Arc::clone(&self.default), ..EffectivePolicy::default() };
                let effective_policy = before.map_or_else(default, |before| before.effective_policy);
                let effective_policy = EffectivePolicy { mistake: Some(mistake.clone()), ..effective_policy };
                self.put(service, StoredPolicy { text, good, closed_by, effective_policy, access });
                Err(mistake)
            }
        }
    }

    fn take(&mut self, service: &ServiceName) -> Option<StoredPolicy> {
        let before = self.given.remove(service)?;
        self.broken -= usize::from(before.effective_policy.mistake.is_some());
        Some(before)
    }

    fn put(&mut self, service: &ServiceName, stored: StoredPolicy) {
        let policy = &stored.effective_policy.policy;
        if self.shown.get(service.as_str()).is_none_or(|shown| !Arc::ptr_eq(shown, policy)) {
            Arc::make_mut(&mut self.shown).insert(service.clone(), Arc::clone(policy));
        }
        self.broken += usize::from(stored.effective_policy.mistake.is_some());
        self.given.insert(service.clone(), stored);
    }

    /// What an earlier run had read of the keys of issuers.
    pub(super) fn restore_key_sets(&mut self, saved: BTreeMap<String, SavedKeySet>) {
        self.saved_key_sets = saved;
    }

    /// What issuers have said their keys are, by their URL.
    pub(super) fn key_sets(&self) -> BTreeMap<String, SavedKeySet> {
        let sets = self.given.values().filter_map(|given| given.access.as_ref()?.key_set());
        sets.filter_map(|set| set.saved()).collect()
    }

    /// Another number when the keys of an issuer have changed.
    pub(super) fn key_set_changes(&self) -> u64 {
        self.key_set_changes.load(Ordering::Relaxed)
    }

    /// The last good words of each service; where none were good and nothing passes for that, those.
    pub(super) fn save(&self) -> BTreeMap<ServiceName, String> {
        let words = |given: &StoredPolicy| given.good.clone().or_else(|| given.closed_by.clone());
        self.given.iter().filter_map(|(service, given)| Some((service.clone(), words(given)?))).collect()
    }
}

// === impl Instances ===

impl Instances {
    /// Replaces the policies, which are all there are; returns what is wrong with some. Those are not in force: the last
    /// good ones are.
    pub fn replace_policies(&mut self, all: BTreeMap<ServiceName, String>) -> Vec<(ServiceName, FieldError)> {
        let gone: Vec<_> = self.policies.services().filter(|service| !all.contains_key(*service)).cloned().collect();
        let changes = all.into_iter().map(|(service, text)| (service, Some(text)));
        let changes: Vec<_> = gone.into_iter().map(|service| (service, None)).chain(changes).collect();
        let set =
            |(service, text): (ServiceName, _)| self.set_policy(&service, text).err().map(|error| (service, error));
        changes.into_iter().filter_map(set).collect()
    }

    /// Takes over what `config/<service>` says, or no longer says.
    ///
    /// # Errors
    ///
    /// What is wrong with it. It is not in force then: the last good one is.
    pub fn set_policy(&mut self, service: &ServiceName, text: Option<String>) -> Result<(), FieldError> {
        let set = self.policies.set(service, text);
        if set != Ok(false) {
            self.touched.whole(service.clone());
            self.rights_version += 1;
        }
        set.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mail() -> ServiceName {
        "mail".parse().unwrap()
    }

    fn connect(policies: &Policies) -> Duration {
        policies.of(&mail()).policy.timeouts.connect
    }

    #[test]
    fn what_is_said_goes_over_the_default_and_is_taken_back() {
        let mut default = Policy::default();
        default.timeouts.connect = Duration::from_secs(7);
        let mut policies = Policies::new(default);
        assert_eq!(connect(&policies), Duration::from_secs(7));
        let text = r#"{"timeouts":{"connect":"2s"}}"#;
        assert_eq!(policies.set(&mail(), Some(text.into())), Ok(true));
        assert_eq!((connect(&policies), policies.of(&mail()).source), (Duration::from_secs(2), PolicySource::Etcd));
        assert_eq!(policies.set(&mail(), Some(text.into())), Ok(false));
        assert_eq!(policies.set(&mail(), None), Ok(true));
        assert_eq!((connect(&policies), policies.of(&mail()).source), (Duration::from_secs(7), PolicySource::Default));
    }

    #[test]
    fn a_broken_policy_leaves_the_last_good_one_in_force_and_is_said_once() {
        let mut policies = Policies::default();
        policies.set(&mail(), Some(r#"{"timeouts":{"connect":"2s"}}"#.into())).unwrap();
        let broken = || Some(r#"{"timeouts":{"connect":"2"}}"#.to_owned());
        assert_eq!(policies.set(&mail(), broken()).unwrap_err().field, "timeouts.connect");
        assert_eq!(policies.set(&mail(), broken()), Ok(false), "once");
        let effective_policy = policies.of(&mail());
        assert_eq!((connect(&policies), effective_policy.source), (Duration::from_secs(2), PolicySource::Etcd));
        assert!(effective_policy.mistake.is_some() && policies.broken() == 1);
        assert_eq!(policies.save()[&mail()], r#"{"timeouts":{"connect":"2s"}}"#, "the good one is saved");
        policies.set(&mail(), Some("{}".into())).unwrap();
        assert_eq!((policies.broken(), connect(&policies)), (0, Duration::from_secs(1)));
    }

    #[test]
    fn a_policy_that_was_never_good_leaves_the_default_in_force() {
        let mut policies = Policies::default();
        assert!(policies.set(&mail(), Some("nonsense".into())).is_err());
        let effective_policy = policies.of(&mail());
        assert_eq!((effective_policy.source, effective_policy.mistake.is_some()), (PolicySource::Default, true));
        assert!(policies.save().is_empty());
    }

    #[test]
    fn a_policy_that_was_never_good_and_may_say_who_passes_lets_nothing_pass_also_after_a_restart() {
        let of_newer = r#"{"auth":{"passkeys":{}}}"#;
        let mut policies = Policies::default();
        assert!(policies.set(&mail(), Some(of_newer.into())).is_err());
        let is_closed = |policies: &Policies| policies.access(&mail()).is_some_and(|access| access.is_closed());
        assert!(is_closed(&policies));
        let mut restarted = Policies::default();
        assert!(restarted.set(&mail(), policies.save().remove(&mail())).is_err());
        assert!(is_closed(&restarted));
        for unreadable in ["nonsense", r#"{"timeouts":7}"#] {
            assert!(policies.set(&mail(), Some(unreadable.into())).is_err());
            let mut restarted = Policies::default();
            assert!(restarted.set(&mail(), policies.save().remove(&mail())).is_err());
            assert!(is_closed(&policies) && is_closed(&restarted), "until one comes that can be read: {unreadable}");
        }
        policies.set(&mail(), Some(r#"{"auth":{"keys":{}}}"#.into())).unwrap();
        assert!(policies.access(&mail()).is_some() && !is_closed(&policies));
        assert!(policies.set(&mail(), Some(of_newer.into())).is_err());
        assert!(policies.access(&mail()).is_some() && !is_closed(&policies), "the last good one stays in force");
        policies.set(&mail(), Some("{}".into())).unwrap();
        assert!(policies.access(&mail()).is_none());
    }
}
