//! The outbox: what was accepted is on disk, and is sent until it is delivered, refused for good, or four days old.
//!
//! | room | what it does |
//! |---|---|
//! | [`store`] | keeps messages, deliveries and what belongs to them in a database |
//! | [`workers`] | send what is due, update userlist, delete what is old |
//!
//! *Accepted means committed.* The answer 202 is given after the commit has reached the disk (SQLite: write-ahead log
//! with full synchronisation; MySQL: its default). From then on SIGKILL and a power failure lose nothing.
//!
//! *At least once.* SMTP cannot do better: between the server's final reply and our recording it there is a moment in
//! which the process may be killed. A message can arrive twice when
//!
//! 1. the instance is killed after the final dot and before the attempt is written down;
//! 2. the connection is lost after the final dot, so that the outcome is unknown (`outcome_unknown`): such an attempt
//!    is repeated twice at most;
//! 3. the instance loses the database for longer than a [claim](store::entry::CLAIM) while it sends, and another one
//!    takes over.
//!
//! Each duplicate has the same Message-ID, by which readers and programs recognise it.

pub mod store;
pub mod workers;

pub use store::{AcceptResult, DatabaseTarget, Outbox, OutboxError};
