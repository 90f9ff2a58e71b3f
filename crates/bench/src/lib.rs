//! What a request costs: `balance` beside nginx, HAProxy, Envoy and Caddy, on any machine with two cores.
//!
//! The gateway under test is pinned to one core. On another one, a single thread is both the clients and the two
//! upstreams ([`engine`]): one `epoll_wait` serves either side, so it takes less time than the gateway, and the gateway
//! is what limits a run. The figure is the gateway's own user and system time divided by the completed requests, which
//! stays the same when the other side is slow; throughput does not.
//!
//! | module | what it is |
//! |---|---|
//! | [`rows`] | **what is measured**, a function for each row of the table |
//! | [`harness`], [`shape`], `uniform` | one measurement: of which request, how, and what came of it |
//! | [`rounds`] | interleaved rounds, medians, ratios |
//! | [`gateway`] | the programs, with configurations that do the same |
//! | [`changes`] | what a change of one instance costs `balance`, with a real etcd |
//! | [`snapshot`], [`access`] | what `balance` knows; what it asks of clients |
//! | [`cost`] | processor time and memory of a process and its children, from `/proc` |
//! | [`pin`], [`machine`], `install` | cores; what the numbers were measured on; how the others get there |
//! | [`instructions`] | instructions for a request, counted by callgrind |
//! | [`report`] | the table as text |
//! | [`calibrate`] | what the measuring side costs by itself, beside `wrk` |
//! | [`engine`] | the load and the upstreams; also the open-loop load of the fault tests |
#![expect(clippy::print_stdout, reason = "a table on standard output is what it is for")]

pub mod access;
pub mod calibrate;
pub mod changes;
pub mod cli;
pub mod cost;
pub mod engine;
pub mod gateway;
pub mod harness;
mod install;
pub mod instructions;
pub mod machine;
pub mod pin;
pub mod report;
pub mod rounds;
pub mod rows;
pub mod shape;
pub mod snapshot;
mod uniform;
