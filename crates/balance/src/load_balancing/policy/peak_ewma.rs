//! Of two by chance the one that will probably answer first: by its latency of late and its requests under way
//! ([`Load::cost_us`](crate::instance::load::Load::cost_us)).

use std::sync::Arc;

use super::{BalancingPolicy, Draw, Observes};
use crate::instance::candidate::Candidate;

/// See the [module](self).
pub(super) struct PeakEwma;

impl BalancingPolicy for PeakEwma {
    const OBSERVES: Observes = Observes::Latency;
    const HASHES: bool = false;
    const QUARTERS: u32 = 1;

    fn draw<'a>(draw: &Draw<'a>) -> Option<&'a Arc<Candidate>> {
        draw.better_of_two(|one| f64::from(one.state.load.cost_us(one.instance.weight.get())))
    }
}
