//! Of two by chance the one with fewer requests under way, by weight: the power of two choices (Mitzenmacher, 2001).

use std::sync::Arc;

use super::{BalancingPolicy, Draw, Observes};
use crate::instance::candidate::Candidate;

/// See the [module](self).
pub(super) struct LeastRequest;

impl BalancingPolicy for LeastRequest {
    const OBSERVES: Observes = Observes::Nothing;
    const HASHES: bool = false;
    const QUARTERS: u32 = 1;

    fn draw<'a>(draw: &Draw<'a>) -> Option<&'a Arc<Candidate>> {
        draw.better_of_two(|one| f64::from(one.state.load.in_flight()) / f64::from(one.instance.weight.get()))
    }
}
