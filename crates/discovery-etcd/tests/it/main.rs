//! Against real etcd members: one, or three that are killed, frozen, wiped and cut off from each other.

#![expect(clippy::unwrap_used, reason = "a panic in what a test is written with is a failed test")]

mod auth;
mod claim;
mod follower;
mod full;
mod keep_alive;
mod layout;
mod leave;
mod members;
mod parts;
mod presence;
mod registration;
mod tls;
mod views;
mod watch;
mod watch_faults;
