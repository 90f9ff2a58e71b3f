//! One instance, as this gateway sees it.
//!
//! | file | |
//! |---|---|
//! | `candidate` | the instance with what requests have shown of it |
//! | `named` | its host name, and the order of its addresses |
//! | `load` | how busy and how fast it is |
//! | `outlier` | whether traffic and probes have judged it unhealthy |
//! | `vitals` | its signs of life: slow is not dead |

pub(crate) mod candidate;
pub(crate) mod load;
pub(crate) mod named;
pub(crate) mod outlier;
pub(crate) mod vitals;
