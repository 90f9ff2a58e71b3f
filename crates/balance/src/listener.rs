//! Where clients come in: one port for all cores, a thread for each.
//!
//! | file | |
//! |---|---|
//! | [`listeners`] | one port for all workers, and for no other gateway |
//! | [`worker`] | one thread per core, from its start to its end in order |
//! | `ending` | when a gateway that ends stops to listen |
//! | `connection` | one client connection, head after head |

pub(crate) mod connection;
pub(crate) mod ending;
pub mod listeners;
pub mod worker;
