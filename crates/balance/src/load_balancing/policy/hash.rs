//! The same instance for the same hash ([`Maglev`](crate::load_balancing::maglev::Maglev)); in turn for a request without one.

use std::sync::Arc;

use super::{BalancingPolicy, Draw, Observes};
use crate::{hash::mix, instance::candidate::Candidate};

/// See the [module](self).
pub(super) struct Hash;

impl BalancingPolicy for Hash {
    const OBSERVES: Observes = Observes::Nothing;
    const HASHES: bool = true;
    const QUARTERS: u32 = 2;

    fn draw<'a>(draw: &Draw<'a>) -> Option<&'a Arc<Candidate>> {
        let Some(hash) = draw.hash else { return draw.in_turn() };
        let hash = if draw.number == 0 { hash } else { mix(hash.wrapping_add(draw.number)) };
        // Over all zones: an instance has a hash for every gateway.
        draw.hashed.and_then(|(maglev, all)| all.get(maglev.at(hash)?)).or_else(|| draw.in_turn())
    }
}
