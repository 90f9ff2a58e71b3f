//! The loop and the sidecar over real sockets, processes and signals. The registry is a scriptable one, for failures
//! that the real one cannot show; what the two say to each other is tested where the real one is.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, a panic is a failed test with a line number")]

mod failover;
mod fake_registry;
mod layout;
mod leaving;
mod lives;
mod reasons;
mod registering;
mod sidecar;
mod sidecar_checks;
mod sidecar_end;
mod sidecar_port;
mod sidecar_signals;
mod steering;
