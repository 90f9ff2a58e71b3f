//! Name of a service → value, in parts that a table shares with the one after it.
//!
//! A change copies the part that its name is in: of two thousand services, eight. So a new table costs the change and
//! two hundred and fifty-six counters, however many services there are, and a request that holds the old one still has it whole. The hash
//! of a name says in which part it is and where in the part, so finding it takes one hash, like a map in one piece.

use std::{
    array,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use discovery::ServiceName;
use hashbrown::{HashTable, hash_table::Entry};

/// Into so many parts a map is divided.
const PARTS: usize = 256;

/// One for all maps, so that the same name is in the same part of each. Keyed by chance: a client cannot choose names that collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// See the [module](self). Cheap to clone; the clones share what neither changes.
#[derive(Debug, Clone)]
pub(crate) struct NameMap<V> {
    parts: [Arc<Part<V>>; PARTS],
}

type Part<V> = HashTable<(ServiceName, V)>;

// === impl NameMap ===

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        let empty = Arc::default();
        Self { parts: array::from_fn(|_| Arc::clone(&empty)) }
    }
}

impl<V: Clone> FromIterator<(ServiceName, V)> for NameMap<V> {
    fn from_iter<I: IntoIterator<Item = (ServiceName, V)>>(all: I) -> Self {
        let mut map = Self::default();
        all.into_iter().for_each(|(name, value)| map.insert(name, value));
        map
    }
}

impl<V> NameMap<V> {
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        let hash = hash(name);
        self.parts[index(hash)].find(hash, |(other, _)| other.as_str() == name).map(|(_, value)| value)
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(_, value)| value)
    }

    /// What is not the same in `before`: each value of then and of now. Looks only at parts that the two do not share.
    pub(crate) fn differences<'a>(
        &'a self,
        before: &'a Self,
        is_same: impl Fn(&V, &V) -> bool,
    ) -> Vec<(Option<&'a V>, Option<&'a V>)> {
        let mut differences = Vec::new();
        for (then, now) in before.parts.iter().zip(&self.parts).filter(|(then, now)| !Arc::ptr_eq(then, now)) {
            let find = |part: &'a Part<V>, name: &ServiceName| {
                part.find(hash(name.as_str()), |(other, _)| other == name).map(|(_, value)| value)
            };
            for (name, value) in now.iter() {
                let old = find(then, name);
                if old.is_none_or(|old| !is_same(old, value)) {
                    differences.push((old, Some(value)));
                }
            }
            let gone = then.iter().filter(|(name, _)| find(now, name).is_none());
            differences.extend(gone.map(|(_, value)| (Some(value), None)));
        }
        differences
    }
}

impl<V: Clone> NameMap<V> {
    pub(crate) fn insert(&mut self, name: ServiceName, value: V) {
        let hash = hash(name.as_str());
        match self.part_mut(hash).entry(hash, |(other, _)| *other == name, rehash) {
            Entry::Occupied(mut known) => known.get_mut().1 = value,
            Entry::Vacant(place) => {
                place.insert((name, value));
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        // What is not there must not cost a copy.
        if self.get(name).is_none() {
            return;
        }
        let hash = hash(name);
        if let Ok(known) = self.part_mut(hash).find_entry(hash, |(other, _)| other.as_str() == name) {
            known.remove();
        }
    }

    fn part_mut(&mut self, hash: u64) -> &mut Part<V> {
        Arc::make_mut(&mut self.parts[index(hash)])
    }
}

fn hash(name: &str) -> u64 {
    HASHER.hash_one(name)
}

fn rehash<V>((name, _): &(ServiceName, V)) -> u64 {
    hash(name.as_str())
}

/// From bits in the middle: a part goes by the lowest and the highest.
fn index(hash: u64) -> usize {
    usize::from((hash >> 32) as u8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn name(n: u16) -> ServiceName {
        format!("s{n}").parse().unwrap()
    }

    #[test]
    fn a_change_copies_one_part_and_leaves_the_map_as_it_was_to_those_who_hold_it() {
        let mut map: NameMap<u16> = (0..2000).map(|n| (name(n), n)).collect();
        let held = map.clone();
        map.insert(name(7), 70);
        map.remove("nobody");
        assert_eq!((held.get("s7"), map.get("s7")), (Some(&7), Some(&70)));
        let shared = held.parts.iter().zip(&map.parts).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert_eq!(shared, PARTS - 1);
        assert_eq!(map.differences(&held, PartialEq::eq), [(Some(&7), Some(&70))]);
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_knows_what_differs(
            first in prop::collection::vec((0..600_u16, prop::option::of(any::<u8>())), 0..400),
            second in prop::collection::vec((0..600_u16, prop::option::of(any::<u8>())), 0..40),
        ) {
            let (mut map, mut model) = (NameMap::default(), BTreeMap::new());
            let change = |map: &mut NameMap<u8>, model: &mut BTreeMap<u16, u8>, changes: Vec<(u16, Option<u8>)>| {
                for (n, value) in changes {
                    match value {
                        Some(value) => (map.insert(name(n), value), model.insert(n, value)).1,
                        None => (map.remove(name(n).as_str()), model.remove(&n)).1,
                    };
                }
            };
            change(&mut map, &mut model, first);
            let (held, before) = (map.clone(), model.clone());
            change(&mut map, &mut model, second);
            for n in 0..600 {
                prop_assert_eq!(map.get(name(n).as_str()), model.get(&n));
                prop_assert_eq!(held.get(name(n).as_str()), before.get(&n));
            }
            prop_assert_eq!(map.values().count(), model.len());
            let mut differences = map.differences(&held, PartialEq::eq);
            let pair = |n: u16| (before.get(&n), model.get(&n));
            let mut expected: Vec<_> = (0..600).map(pair).filter(|(then, now)| then != now).collect();
            differences.sort();
            expected.sort();
            prop_assert_eq!(differences, expected);
        }
    }
}
