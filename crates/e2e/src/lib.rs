//! The suite as its users meet it: real binaries, a real etcd cluster, real signals.
//!
//! | module | what it is |
//! |---|---|
//! | [`binaries`] | finds the programs that the build made |
//! | [`suite`] | three etcd members, two of each service, the gateway; each can be killed, frozen and started again |
//! | [`load`] | requests at a constant rate, and what became of them |
//! | [`transcript`] | console sessions in the documentation: read, run, compared |
//!
//! The tests are in `tests/it`, a module for each story.

pub mod binaries;
pub mod load;
pub mod suite;
pub mod transcript;
