//! The way of a request with a second framing on both sides: what decides, counts, waits and gives up is the same
//! machine.
//!
//! [`frames`] has the framing, [`harness`] a gateway between a client and instances that speak it. Nothing is a socket,
//! and nothing of `proxy/` is there twice: a promise that holds here and for HTTP/1.1 (`tests/it`) is one of the
//! machine.

pub(crate) mod frames;
mod harness;

mod access;
mod bodies;
mod clients;
mod failures;
mod limits;
mod mixed;
