//! The gateway over real sockets: raw bytes in, scripted or hand-held instances behind, exact bytes asserted.
//!
//! `etcd` and `program` run the program itself against real etcd, which must be on the path.
#![expect(clippy::unwrap_used, reason = "in a test a panic is a failure with a line number, also in its helpers")]

mod support;

mod access;
mod access_forward;
mod access_limits;
mod access_oidc;
mod access_passwords;
mod access_tokens;
mod active_checks;
mod broken_bodies;
mod client_leaves;
mod cores;
mod cors;
mod crowds;
mod drain;
mod ejection;
mod etcd;
mod explain;
mod framing;
mod header_fields;
mod last_answers;
mod layout;
mod limits;
mod names;
mod own_answers;
mod policies;
mod prefix;
mod program;
mod refused_bodies;
mod retries;
mod routing;
mod stalled;
mod streaming;
mod subsets;
mod timeouts;
mod twice;
mod unavailable;
mod unread_log;
mod upgrades;
mod upstream_nonsense;
