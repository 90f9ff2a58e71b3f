//! `muster` as its users meet it: the real binary, real etcd members, real signals. The services are stand-ins
//! (`examples/fake_service.rs`); the whole suite with the real ones is tested in `crates/e2e`.
#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

mod command_line;
mod end;
mod etcd_members;
mod layout;
mod start;
mod suite;
mod supervision;
