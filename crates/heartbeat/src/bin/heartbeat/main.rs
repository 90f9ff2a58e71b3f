//! Announces any program as an instance of a service, for as long as it runs and is well.
//!
//! ```text
//! heartbeat --service web --port 8000 -- python3 -m http.server 8000
//! ```
//!
//! The sidecar waits until the port is free, starts the program, waits until it passes its check and is seen to be what
//! listens on the port, announces it, reports `critical` while the check
//! fails, deregisters when the program ends, and ends with the program's exit code. On SIGTERM it deregisters first,
//! lets the gateways go, and only then hands the signal on. Without a program behind `--` it announces something that
//! runs already, and the check alone decides.
//!
//! It is no supervisor: a program that ends is not started again. That is left to what started the sidecar.
//!
//! | exit code | meaning |
//! |---|---|
//! | the program's | it ended by itself, or after a signal that was passed on |
//! | 0 | a signal came before the program was started, or there was none to start |
//! | 128 + N | signal N ended it (137: it ignored SIGTERM for `--grace`) |
//! | 126, 127 | it cannot be run; it is not there |
//! | 64 | the configuration is wrong |
//! | 1 | the operating system refused something the sidecar needs |

mod check;
mod config;
mod health;
mod launch;
mod owner;
mod program;
mod reach;
mod reaper;
mod sidecar;
mod signals;
mod sockets;
mod speech;
mod vacancy;

use std::{process::ExitCode, time::Duration};

use service_kit::{chain, config::EXIT_USAGE, telemetry};

use crate::config::Config;

fn main() -> ExitCode {
    if let Some(code) = launch::become_program(std::env::args_os()) {
        return code;
    }
    let config = match service_kit::config::load(Config::mistakes) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let _log_end = match telemetry::init(&config.log, config.log_format) {
        Ok(end) => end,
        Err(mistake) => {
            service_kit::config::report("heartbeat", &[format!("--log (RUST_LOG) = \"{}\": {mistake}", config.log)]);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    service_kit::config::warn_of_misspelt_variables::<Config>();
    // One thread is plenty, and it is the main thread that the program's parent-death signal is tied to (see `launch`).
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %chain(&error), "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(sidecar::run(config));
    // The look-up of a registry's name may block for too long.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!(error = %chain(&error), "failed");
            ExitCode::FAILURE
        }
    }
}
