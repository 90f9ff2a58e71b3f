//! The server as its clients meet it: real sockets, half a request, an end in the middle of one.
#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

mod abandoned;
mod crowds;
mod http2;
mod layout;
mod pages;
mod refused_bodies;
mod serve;
mod tls;
mod tokens;
