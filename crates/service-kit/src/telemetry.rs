//! Structured logs through `tracing`: text on a terminal, JSON otherwise, always on standard error.
//!
//! What each level means here: `info` is a change of state (an instance came, a lease was lost, an address was bound),
//! never one line per request; `warn` is degraded but carrying on; `error` wants a person. Mail addresses, message
//! bodies and secrets never appear at any level.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line an event, coloured on a terminal.
    Text,
    /// One JSON object an event, for machines.
    Json,
}

/// Installs the process's subscriber. `filter` is in the syntax of `RUST_LOG`, for example `info,balance=debug`.
///
/// # Errors
/// The filter cannot be parsed.
pub fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| format!("{error}; write for example \"info,balance=debug\""))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // `try_init` fails only when a subscriber is there already, as in tests that start several services in one process.
    let _already_there = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto if !terminal => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(terminal).try_init(),
    };
    Ok(())
}
