//! Which connections go when places are needed.
//!
//! The network that holds the most loses first, and of its connections the one that has waited longest without a
//! request. So a client that opens thousands pushes out its own, however it keeps them open, and where all hold equally
//! few (an attack from many addresses) the longest wait decides among all. Connections of exempt networks, which carry
//! the requests of many clients, go when there are no others.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use super::{
    ClientNetwork,
    place::{Occupant, Waiting},
};

/// A connection that may go, as it was when it was chosen.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    occupant: Arc<Occupant>,
    waiting: Waiting,
}

impl Candidate {
    /// The connection, if nothing has happened on it since and it is still there.
    pub(super) fn still(self) -> Option<Arc<Occupant>> {
        let chosen = self.waiting;
        self.waiting().filter(|occupant| occupant.waiting() == Some(chosen))
    }

    /// The connection, if it still waits and is there.
    pub(super) fn waiting(self) -> Option<Arc<Occupant>> {
        let is_there = self.occupant.index.load(std::sync::atomic::Ordering::Relaxed) != Occupant::NOWHERE;
        (is_there && self.occupant.waiting().is_some()).then_some(self.occupant)
    }
}

/// Up to `most` connections of `all`, of `only` if that is a network; the one that goes first is the last.
///
/// Takes O(n log n) for n connections: ask for several at once.
pub(super) fn choose(
    all: &[Arc<Occupant>],
    count: impl Fn(ClientNetwork) -> usize,
    only: Option<ClientNetwork>,
    most: usize,
) -> Vec<Candidate> {
    let mut groups: HashMap<(bool, ClientNetwork), Vec<Candidate>> = HashMap::new();
    for occupant in all.iter().filter(|occupant| only.is_none_or(|network| network == occupant.network)) {
        if let Some(waiting) = occupant.evictable() {
            let group = groups.entry((occupant.is_exempt, occupant.network)).or_default();
            group.push(Candidate { occupant: Arc::clone(occupant), waiting });
        }
    }
    let mut queue: BinaryHeap<_> = groups
        .iter_mut()
        .filter_map(|(group, members)| {
            members.sort_unstable_by_key(|member| Reverse(member.waiting));
            let (is_exempt, network) = *group;
            Some((Reverse(is_exempt), count(network), Reverse(members.last()?.waiting), network))
        })
        .collect();
    let mut chosen = Vec::new();
    while chosen.len() < most
        && let Some((Reverse(is_exempt), count, _, network)) = queue.pop()
    {
        let Some(members) = groups.get_mut(&(is_exempt, network)) else { continue };
        chosen.extend(members.pop());
        if let Some(next) = members.last() {
            queue.push((Reverse(is_exempt), count - 1, Reverse(next.waiting), network));
        }
    }
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(last: u8) -> ClientNetwork {
        ClientNetwork::of([10, 0, 0, last].into())
    }

    fn occupant(last: u8, now_ms: u64) -> Arc<Occupant> {
        Arc::new(Occupant::new(network(last), last == 99, now_ms).begun())
    }

    /// Whose connections go, in that order, by network and the moment since when they wait.
    fn order(all: &[Arc<Occupant>], only: Option<u8>) -> Vec<(ClientNetwork, Waiting)> {
        let count = |network| all.iter().filter(|occupant| occupant.network == network).count();
        let chosen = choose(all, count, only.map(network), 100);
        chosen.iter().rev().map(|candidate| (candidate.occupant.network, candidate.waiting)).collect()
    }

    fn expected(order: &[(u8, u64)]) -> Vec<(ClientNetwork, Waiting)> {
        order.iter().map(|(last, since)| (network(*last), Waiting::since(*since))).collect()
    }

    #[test]
    fn the_network_with_the_most_loses_its_longest_waiting_until_all_have_equally_many() {
        let all = [occupant(1, 5), occupant(2, 30), occupant(2, 10), occupant(2, 20), occupant(3, 7)];
        assert_eq!(order(&all, None), expected(&[(2, 10), (2, 20), (1, 5), (3, 7), (2, 30)]));
        assert_eq!(order(&all, Some(1)), expected(&[(1, 5)]));
    }

    #[test]
    fn an_exempt_network_loses_when_there_is_no_other() {
        let all = [occupant(99, 1), occupant(99, 2), occupant(1, 9)];
        assert_eq!(order(&all, None), expected(&[(1, 9), (99, 1), (99, 2)]));
    }

    #[test]
    fn a_connection_that_has_not_begun_is_not_chosen() {
        let all = [Arc::new(Occupant::new(network(1), false, 1))];
        assert!(order(&all, None).is_empty());
    }
}
