//! The registry against real etcd, over real HTTP. Needs `etcd` and `etcdctl` on the path.
#![expect(clippy::unwrap_used, reason = "in a test a panic is a failure with a line number, also in its helpers")]

mod admission;
mod alerts;
mod bad_input;
mod binary;
mod client;
mod consul;
mod dialects;
mod dns;
mod documentation;
mod faults;
mod following;
mod heartbeats;
mod high_availability;
mod hostile_input;
mod import;
mod lists;
mod metrics;
mod openapi;
mod outages;
mod overrides;
mod polling;
mod prometheus;
mod proof;
mod properties;
mod recovery;
mod replicas;
mod restore;
mod scraper;
mod settings;
mod steady;
mod stream;
mod support;
mod tls;
mod unread_log;
