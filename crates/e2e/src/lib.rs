//! The suite as its users meet it: real binaries, a real etcd cluster, real signals.
//!
//! | module | what it is |
//! |---|---|
//! | [`binaries`] | finds the programs that the build made |
//! | [`suite`] | three etcd members, two of each service, the gateway; each can be killed, frozen and started again |
//! | [`load`] | requests at a constant rate, and what became of them |
//! | [`fault_suite`] | what faults are tried on: three test instances behind the gateway, which write down what reached them |
//! | [`users`], [`fault_row`] | requests that are due by the clock, and what their senders noticed of a fault |
//! | [`table_watch`] | whether an instance was ever missing from the gateway's table |
//! | [`three_hosts`] | an etcd member and a registry each, two gateways, services in three languages; hosts are killed and cut off |
//! | [`latency`] | what a share of all requests did not exceed |
//! | [`scale`] | a little in `make test`, everything in `make faults` |
//!
//! The tests are in `tests/it`, a module for each story.

pub mod binaries;
pub mod fault_row;
pub mod fault_suite;
pub mod gunicorn;
pub mod latency;
pub mod load;
pub mod scale;
pub mod suite;
pub mod table_watch;
pub mod three_hosts;
pub mod users;
