use std::{collections::HashMap, sync::Arc};

use discovery::policy::Policy;

use crate::{
    instance::candidate::Candidate,
    load_balancing::{maglev::Maglev, policy, weighted_set::WeightedSet},
};

/// The instances of a service that may be picked, prepared so that a pick does not walk over them.
#[derive(Debug, Clone, Default)]
pub(crate) struct CandidateSet {
    /// All of them.
    all: WeightedSet,
    /// Those in the gateway's own zone and those elsewhere, when there are both and the policy wants them told apart.
    zones: Option<Box<Zones>>,
    /// For a policy that [asks for it](policy::BalancingPolicy::HASHES).
    maglev: Option<Arc<Maglev>>,
    /// By [`Candidate::cookie`], when the policy is sticky.
    cookies: HashMap<[u8; 16], usize>,
}

/// The instances near and far.
#[derive(Debug, Clone)]
pub(crate) struct Zones {
    pub(crate) near: WeightedSet,
    pub(crate) far: WeightedSet,
}

// === impl CandidateSet ===

impl CandidateSet {
    /// `zone` is the gateway's own; `before` is the shelf in whose place this comes.
    pub(crate) fn new(
        candidates: Vec<Arc<Candidate>>,
        policy: &Policy,
        zone: Option<&str>,
        before: Option<&Self>,
    ) -> Self {
        let is_hashed = policy::hashes(policy.load_balancing.policy);
        let before = before.and_then(|before| before.maglev.as_ref());
        let maglev = is_hashed.then(|| Maglev::of(&candidates, before));
        let cookie = |(index, candidate): (usize, &Arc<Candidate>)| (*candidate.cookie(), index);
        let is_sticky = policy.load_balancing.sticky.is_some();
        let cookies = candidates.iter().enumerate().filter(|_| is_sticky).map(cookie).collect();
        // A hash, or a cookie, leads to any of all.
        let weighted_set = if is_hashed || is_sticky { WeightedSet::new } else { WeightedSet::on_ring };
        let zone = zone.filter(|_| policy.load_balancing.zone_preference);
        let zones = zone.and_then(|zone| Zones::split(&candidates, zone, weighted_set));
        let all = if zones.is_some() { WeightedSet::new(candidates) } else { weighted_set(candidates) };
        Self { all, zones: zones.map(Box::new), maglev, cookies }
    }

    pub(crate) fn all(&self) -> &[Arc<Candidate>] {
        self.all.all()
    }

    pub(crate) fn weighted_set(&self) -> &WeightedSet {
        &self.all
    }

    pub(crate) fn zones(&self) -> Option<&Zones> {
        self.zones.as_deref()
    }

    pub(crate) fn maglev(&self) -> Option<&Maglev> {
        self.maglev.as_deref()
    }

    /// Takes down on its rings which instances are judged unhealthy.
    pub(crate) fn note_unhealthy(&self) {
        let zones = self.zones();
        let weighted_sets = [Some(&self.all), zones.map(|zones| &zones.near), zones.map(|zones| &zones.far)];
        for weighted_set in weighted_sets.into_iter().flatten() {
            if let Some(ring) = weighted_set.ring() {
                ring.note_unhealthy(weighted_set.all());
            }
        }
    }

    /// The instance whose cookie this is.
    pub(crate) fn with_cookie(&self, cookie: &[u8]) -> Option<&Arc<Candidate>> {
        let cookie: &[u8; 16] = cookie.try_into().ok()?;
        self.all.all().get(*self.cookies.get(cookie)?)
    }
}

// === impl Zones ===

impl Zones {
    fn split(
        candidates: &[Arc<Candidate>],
        zone: &str,
        weighted_set: impl Fn(Vec<Arc<Candidate>>) -> WeightedSet,
    ) -> Option<Self> {
        let is_near = |candidate: &&Arc<Candidate>| candidate.instance.zone.as_deref() == Some(zone);
        let (near, far): (Vec<_>, Vec<_>) = candidates.iter().partition(is_near);
        let weighted_set = |some: Vec<&Arc<Candidate>>| weighted_set(some.into_iter().cloned().collect());
        (!near.is_empty() && !far.is_empty()).then(|| Self { near: weighted_set(near), far: weighted_set(far) })
    }
}
