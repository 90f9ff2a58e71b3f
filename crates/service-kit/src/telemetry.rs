//! Structured logs through `tracing`: text on a terminal, JSON otherwise, always on standard error.
//!
//! What each level means here: `info` is a change of state (an instance came, a lease was lost, an address was bound),
//! never one line per request; `warn` is degraded but carrying on; `error` wants a person. Mail addresses, message
//! bodies and secrets never appear at any level.

use std::{io::IsTerminal as _, sync::OnceLock};

use tracing_subscriber::{EnvFilter, reload};

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// What replaces the filter of the process's subscriber; nothing before [`init`].
static REPLACE: OnceLock<Replace> = OnceLock::new();

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
    let filter = parse(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Each kind of line has a subscriber of another type, and so has the handle on its filter. `try_init` fails only when
    // a subscriber is there already, as in tests that start several services in one process.
    macro_rules! install {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _first = REPLACE.set(Box::new(move |filter| handle.reload(filter)));
            }
        }};
    }
    match format {
        LogFormat::Json => install!(builder.json().flatten_event(true)),
        LogFormat::Auto if !terminal => install!(builder.json().flatten_event(true)),
        LogFormat::Auto | LogFormat::Text => install!(builder.with_ansi(terminal)),
    }
    Ok(())
}

/// Logs by another filter from now on, in the syntax of [`init`].
///
/// # Errors
/// The filter cannot be parsed, or there is no subscriber of ours to filter for; nothing has changed then.
pub fn refilter(filter: &str) -> Result<(), String> {
    let filter = parse(filter)?;
    let replace = REPLACE.get().ok_or("this process logs nothing, or by a subscriber of its own")?;
    replace(filter).map_err(|error| error.to_string())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| format!("{error}; write for example \"info,balance=debug\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_filter_counts_at_once_and_one_that_makes_no_sense_changes_nothing() {
        assert!(refilter("info").is_err(), "before the start there is nothing to filter");
        init("info", LogFormat::Text).unwrap();
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        refilter("info,service_kit=debug").unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(refilter("service_kit=loud").unwrap_err().contains("write for example"));
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        refilter("warn").unwrap();
        assert!(!tracing::enabled!(tracing::Level::INFO));
    }
}
