//! Clients and upstreams on one thread, around one `epoll`.
//!
//! | module | what it is |
//! |---|---|
//! | [`load`] | how many requests, at what pace, on how many connections; and what became of each |
//! | [`event_loop`] | waits for sockets and hands each to its side |
//! | [`clients`] | due requests → free connections |
//! | `connection` | one request at a time on one connection |
//! | [`origin`] | the upstreams: any request, one fixed answer |
//! | [`wire`] | as much of HTTP/1.1 as the two sides need |
//!
//! Requests that are due while every connection is busy wait, and their latency counts from when they were due: a
//! gateway that stalls cannot hide it by slowing its clients down ("coordinated omission").

pub mod clients;
mod connection;
pub mod event_loop;
pub mod load;
pub mod origin;
pub mod wire;

pub use clients::Clients;
pub use event_loop::EventLoop;
pub use load::{Broken, Connections, Done, Load, Outcome, Pace, Traffic};
pub use origin::Origin;
