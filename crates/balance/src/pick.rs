//! Which instance gets the request.
//!
//! Candidates are the instances that are registered and want traffic; when no instance of the service is registered any
//! more, those that vanished without a word and may still answer (`last resort`). Among them: in turn, by weight, leaving
//! out those that this request has tried and those that are ejected. When that leaves nobody, an ejected one is better
//! than nobody, so the last instance is never ejected.

mod round_robin;

use std::sync::Arc;

pub(crate) use round_robin::Turns;

use crate::{
    clock::Millis,
    routing_table::{Candidate, Service},
};

/// The instances that a request has tried in vain, by serial number; a few, mostly none.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<u64>);

impl Tried {
    pub(crate) fn add(&mut self, candidate: &Candidate) {
        self.0.push(candidate.serial);
    }

    fn contains(&self, candidate: &Candidate) -> bool {
        self.0.contains(&candidate.serial)
    }
}

/// Picks an instance, `turn` counting the picks of this service; `None` when all candidates were tried or there are none.
pub(crate) fn pick<'a>(service: &'a Service, turn: usize, tried: &Tried, now: Millis) -> Option<&'a Arc<Candidate>> {
    let shelf = service.shelf();
    let untried = || shelf.from(turn).filter(|candidate| !tried.contains(candidate));
    untried().find(|candidate| candidate.passive.admits(now)).or_else(|| untried().next())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{passive::Policy, routing_table::Shelf};

    fn service(ready: &[(&str, u64)]) -> Service {
        let candidates = ready.iter().map(|(address, weight)| Arc::new(Candidate::sample(address, *weight)));
        Service { candidates: Shelf::new(candidates.collect()), ..Service::empty("mail".parse().unwrap(), 1) }
    }

    fn picks(service: &Service, turns: usize) -> BTreeMap<String, usize> {
        let mut picks = BTreeMap::new();
        for turn in 0..turns {
            let picked = pick(service, turn, &Tried::default(), Millis(0)).unwrap();
            *picks.entry(picked.address().to_string()).or_default() += 1;
        }
        picks
    }

    #[test]
    fn equal_instances_take_turns() {
        let service = service(&[("a:1", 1), ("b:1", 1), ("c:1", 1)]);
        let order: Vec<_> = (0..6)
            .map(|turn| pick(&service, turn, &Tried::default(), Millis(0)).unwrap().address().to_string())
            .collect();
        assert_eq!(order, ["a:1", "b:1", "c:1", "a:1", "b:1", "c:1"]);
    }

    #[test]
    fn an_instance_of_weight_3_gets_three_times_the_requests() {
        let picks = picks(&service(&[("a:1", 3), ("b:1", 1)]), 4000);
        assert!((2980..=3020).contains(&picks["a:1"]), "{picks:?}");
    }

    #[test]
    fn an_ejected_instance_is_left_out() {
        let service = service(&[("a:1", 1), ("b:1", 1)]);
        service.candidates.all()[0].passive.failed(Millis(0), Policy::default());
        assert_eq!(picks(&service, 10).keys().collect::<Vec<_>>(), ["b:1"]);
    }

    #[test]
    fn the_last_instance_is_never_ejected() {
        let service = service(&[("a:1", 1), ("b:1", 1)]);
        for candidate in service.candidates.all() {
            candidate.passive.failed(Millis(0), Policy::default());
        }
        assert_eq!(picks(&service, 10).len(), 2, "when all are ejected, all are used");
    }

    #[test]
    fn no_instance_is_tried_twice() {
        let service = service(&[("a:1", 1), ("b:1", 1)]);
        let mut tried = Tried::default();
        for _ in 0..2 {
            tried.add(pick(&service, 0, &tried, Millis(0)).unwrap());
        }
        assert!(pick(&service, 0, &tried, Millis(0)).is_none());
    }

    #[test]
    fn the_last_resort_is_used_only_when_nobody_is_registered() {
        let suspect = Shelf::new(vec![Arc::new(Candidate::sample("old:1", 1))]);
        let registered = Service { last_resort: suspect.clone(), ..service(&[("a:1", 1)]) };
        assert_eq!(picks(&registered, 10).keys().collect::<Vec<_>>(), ["a:1"]);
        let nobody = Service { last_resort: suspect, ..service(&[]) };
        assert_eq!(picks(&nobody, 10).keys().collect::<Vec<_>>(), ["old:1"]);
    }
}
