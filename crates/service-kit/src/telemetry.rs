//! Structured logs through `tracing`: text on a terminal, JSON otherwise, always on standard error.
//!
//! What each level means here: `info` is a change of state (an instance came, a lease was lost, an address was bound),
//! never one line per request; `warn` is degraded but carrying on; `error` wants a person. Mail addresses, message
//! bodies and secrets never appear at any level.
//!
//! Logging never blocks: lines go through a queue of 1 MiB to a thread that writes them. While standard error is not
//! read, what finds no room there is lost, and counted in `log_lines_lost_total`.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal as _,
    panic::PanicHookInfo,
    sync::OnceLock,
    time::Duration,
};

use prometheus_client::registry::Registry;
use tracing_subscriber::{EnvFilter, reload};

use crate::{
    log_line::{JsonLine, TextLine},
    log_queue::LogQueue,
};

/// How long the end of the process waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long a thread that panics waits for its message to be written: it may be the last thing the process does.
const LAST_WORDS: Duration = Duration::from_millis(100);

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// What replaces the filter of the process's subscriber; nothing before [`init`].
static REPLACE: OnceLock<Replace> = OnceLock::new();

/// The process's only way to standard error; nothing before [`init`].
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

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

/// Waits, when it is dropped, until the last lines are written: for a second at most, because they may never be read.
#[derive(Debug)]
#[must_use = "the last lines of the log are lost when the process ends before they are written"]
pub struct LogEnd(());

/// Installs the process's subscriber. `filter` is in the syntax of `RUST_LOG`, for example `info,balance=debug`.
///
/// Messages of panics go the same way from then on. The result is to be held to the end of `main`.
///
/// # Errors
/// The filter cannot be parsed.
pub fn init(filter: &str, format: LogFormat) -> Result<LogEnd, String> {
    let filter = parse(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let queue = QUEUE.get_or_init(start_queue).clone();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue);
    // Each kind of line has a subscriber of another type, and so has the handle on its filter. `try_init` fails only
    // when a subscriber is there already, as in tests that start several services in one process.
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
        LogFormat::Json => install!(builder.json().event_format(JsonLine::default())),
        LogFormat::Auto if !terminal => install!(builder.json().event_format(JsonLine::default())),
        LogFormat::Auto | LogFormat::Text => {
            install!(builder.with_ansi(terminal).event_format(TextLine::new(terminal)))
        }
    }
    Ok(LogEnd(()))
}

/// Registers `log_lines_lost_total`.
pub fn register(registry: &mut Registry) {
    let lost = QUEUE.get().map(LogQueue::lost).unwrap_or_default();
    registry.register("log_lines_lost", "Log lines that standard error did not take in time", lost);
}

/// The queue with its thread, and panics on their way through it. When the operating system gives no thread, lines are
/// lost, which the counter says: better than to start a service that may stop at any line.
fn start_queue() -> LogQueue {
    let queue = LogQueue::default();
    let of_thread = queue.clone();
    let of_panics = queue.clone();
    let tell = |lost| tracing::warn!(lost, "log lines were lost here: standard error did not take them in time");
    let thread = std::thread::Builder::new().name("log".to_owned());
    let _no_thread = thread.spawn(move || of_thread.run(std::io::stderr(), tell));
    std::panic::set_hook(Box::new(move |panic| {
        of_panics.push(last_words(panic).as_bytes());
        of_panics.flush(LAST_WORDS);
    }));
    queue
}

/// What the standard library would print.
fn last_words(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("thread '{name}' {panic}\nstack backtrace:\n{backtrace}\n"),
        _ => format!("thread '{name}' {panic}\n"),
    }
}

impl Drop for LogEnd {
    fn drop(&mut self) {
        if let Some(queue) = QUEUE.get() {
            queue.flush(LAST_LINES);
        }
    }
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
        let _end = init("info", LogFormat::Text).unwrap();
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        refilter("info,service_kit=debug").unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(refilter("service_kit=loud").unwrap_err().contains("write for example"));
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        refilter("warn").unwrap();
        assert!(!tracing::enabled!(tracing::Level::INFO));
    }
}
