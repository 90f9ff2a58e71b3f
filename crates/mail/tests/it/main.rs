//! The service as its callers and its SMTP server meet it: real requests, real conversations, real processes.
#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

mod acceptance;
mod batch;
mod bounds;
mod broadcasts;
mod busy;
mod composing;
mod connections;
mod deadlines;
mod dkim;
mod documentation;
mod durability;
mod encryption;
mod failures;
mod farewells;
mod files;
mod injection;
mod input;
mod keys;
mod large;
mod limits;
mod messages;
mod migration;
mod openapi;
mod outage;
mod outbox_failures;
mod plain;
mod process;
mod program;
mod replies;
mod service;
mod shared_outbox;
mod third_party;
mod tokens;
mod transactions;
