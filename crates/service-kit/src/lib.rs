//! What every Muster binary shares, so that four services look and fail the same.
//!
//! In the order in which a service meets them:
//!
//! | module | what it settles |
//! |---|---|
//! | [`config`] | flags and environment from one definition, all mistakes at once, exit code 64 |
//! | [`duration`], [`time`], [`secret`] | values with a unit; moments of the wall clock; values that never reach a log |
//! | [`telemetry`], `log_line`, `log_queue` | structured logs, text on a terminal, JSON otherwise; a log that is not read stops no thread |
//! | [`private_files`] | what services write to disk is their user's alone |
//! | [`service`] | `main`: configuration → telemetry → runtime → signals → run → exit code |
//! | [`shutdown`] | SIGTERM and SIGINT become one token |
//! | [`serve`], [`port_holder`] | the HTTP server: header deadline, bounded connections, drain; who has its port already |
//! | [`connections`], [`open_files`] | who may connect: bounds that let a newcomer in |
//! | [`tls`] | certificates from files, renewed without a restart |
//! | [`names`], [`networks`] | host names, resolved in the background and kept; networks in options |
//! | [`client`], [`unknown_name()`] | the HTTP client, plain or over TLS; a host that there is not |
//! | [`request`] | request id and W3C trace context, in, through and out |
//! | [`json`], [`problem`] | bodies in, RFC 9457 errors out |
//! | [`email`], [`text`] | what an e-mail address is; text in one spelling |
//! | [`browser`] | what web pages of other sites may make a browser send: nothing that changes anything |
//! | [`tokens`], [`signature`] | who may do what: bearer tokens and signed requests |
//! | [`reload`], [`regular_file`] | files that are read again when they change; small ones whose path a configuration names |
//! | [`health`], [`metrics`] | `/healthz`, `/readyz`, `/metrics` |
//! | [`app`], [`openapi`] | the router around a service's own routes; their description for programs |
//! | [`token_bucket`] | rate limits, in bounded memory |
//! | [`backoff`] | waiting longer after every failure, with jitter |
//!
//! A piece belongs here when a second binary needs it, not before.

pub mod app;
pub mod backoff;
pub mod browser;
pub mod client;
pub mod config;
pub mod connections;
pub mod duration;
pub mod email;
pub mod error_chain;
pub mod health;
pub mod json;
mod log_line;
mod log_queue;
pub mod metrics;
pub mod names;
pub mod networks;
pub mod open_files;
pub mod openapi;
pub mod port_holder;
pub mod private_files;
pub mod problem;
pub mod regular_file;
pub mod reload;
pub mod request;
pub mod secret;
pub mod serve;
pub mod service;
pub mod shutdown;
pub mod signature;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod tls;
pub mod token_bucket;
pub mod tokens;
mod unknown_name;

pub use error_chain::chain;
pub use problem::Problem;
pub use secret::Secret;
pub use unknown_name::unknown_name;
