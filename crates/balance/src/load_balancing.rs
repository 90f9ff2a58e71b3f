//! Which instance gets the request, of those that may have it.
//!
//! | file | |
//! |---|---|
//! | `pick` | the choice, step by step |
//! | `affinity` | what a request says about where it should go: a hash, a sticky cookie |
//! | `policy` | the balancing policies, one file each, with what each needs recorded |
//! | `candidate_set`, `weighted_set` | the instances of a service, prepared so that a pick does not walk over them |
//! | `subset` | which of many instances a core picks from for now |
//! | `weighted_round_robin`, `maglev` | whose turn it is; who has which hash |
//! | `assess` | what the judgements about all instances add up to: panic, and the share of the own zone |
//! | `effective_policy` | the policy in force, and where it comes from |
//! | `balancer` | all that a pick needs to know of a service |
//! | `pending_queue` | requests that wait because every instance is busy |

pub(crate) mod affinity;
pub(crate) mod assess;
pub(crate) mod balancer;
pub(crate) mod candidate_set;
pub(crate) mod effective_policy;
pub(crate) mod maglev;
pub(crate) mod pending_queue;
pub(crate) mod pick;
pub(crate) mod policy;
pub(crate) mod subset;
pub(crate) mod weighted_round_robin;
pub(crate) mod weighted_set;
