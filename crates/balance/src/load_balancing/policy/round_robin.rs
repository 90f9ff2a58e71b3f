//! In turn, by weight ([`WeightedRoundRobin`](crate::load_balancing::weighted_round_robin::WeightedRoundRobin)).

use std::sync::Arc;

use super::{BalancingPolicy, Draw, Observes};
use crate::instance::candidate::Candidate;

/// See the [module](self).
pub(super) struct RoundRobin;

impl BalancingPolicy for RoundRobin {
    const OBSERVES: Observes = Observes::Nothing;
    const HASHES: bool = false;
    const QUARTERS: u32 = 2;

    fn draw<'a>(draw: &Draw<'a>) -> Option<&'a Arc<Candidate>> {
        draw.in_turn()
    }
}
