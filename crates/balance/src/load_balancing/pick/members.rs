//! Which instances are in a core's subset, for `/explain`.

use std::collections::BTreeSet;

use super::{PickContext, Picker, Shelf, TriedInstances};
use crate::{
    clock::Millis,
    load_balancing::{balancer::Balancer, subset::Side},
};

/// The instances that a core picks from for now, by serial number, as of its last request; `None`: all.
pub(crate) fn subset_of(balancer: &Balancer, core: usize, now: Millis) -> Option<BTreeSet<u64>> {
    let (ask, tried) = (PickContext::of(core, now), TriedInstances::default());
    let picker = Picker::looking(balancer, &ask, &tried);
    let candidate_set = balancer.candidate_set();
    let shelves = match candidate_set.zones() {
        Some(zones) => vec![(&zones.near, Side::Near), (&zones.far, Side::Far)],
        None => vec![(candidate_set.weighted_set(), Side::Near)],
    };
    let mut members = BTreeSet::new();
    let mut is_subset = false;
    for (weighted_set, side) in shelves {
        match picker.window(Shelf { weighted_set, side }) {
            Some(window) => {
                is_subset = true;
                members.extend(weighted_set.members(window).map(|candidate| candidate.serial));
            }
            None => members.extend(weighted_set.all().iter().map(|candidate| candidate.serial)),
        }
    }
    is_subset.then_some(members)
}
