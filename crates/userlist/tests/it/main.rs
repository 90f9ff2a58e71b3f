//! The service as its clients, its gateway and its operators meet it: real sockets, real files, a real MariaDB that is
//! killed, frozen, emptied and locked.
#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

mod contract;
mod documentation;
mod durability;
mod fake_registry;
mod finding;
mod imports;
mod layout;
mod openapi;
mod outage;
mod plain;
mod process;
mod refused_bodies;
mod rest;
mod searches;
mod service;
mod sqlite;
mod start;
mod tokens;
mod transfer;
mod upgrade;
