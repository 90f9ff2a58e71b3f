//! Who is well: asking instances, beside the requests.
//!
//! | file | |
//! |---|---|
//! | [`checks`] | health checks of the instances in use, and of those that have fallen silent |
//! | `last_resort` | asking those whose lease expired whether they are still there |
//! | `probe` | one question and its answer |

pub mod checks;
pub(crate) mod last_resort;
pub(crate) mod probe;
