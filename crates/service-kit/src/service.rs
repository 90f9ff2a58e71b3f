//! `main` of every service: configuration → telemetry → runtime → signals → run → exit code.

use std::{error::Error, future::Future, process::ExitCode};

use tokio_util::sync::CancellationToken;

use crate::{
    chain,
    config::{self, EXIT_USAGE, ServiceConfig},
    health, private_files,
    serve::BindError,
    shutdown, telemetry,
};

/// `EX_UNAVAILABLE` of `sysexits.h`: the service cannot have the address that it is to listen on.
pub const EXIT_UNAVAILABLE: u8 = 69;

/// What a service returns when it cannot go on.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs a service named `name` until it ends by itself or is asked to.
///
/// `run` gets the configuration and a token that is cancelled at the first SIGTERM or SIGINT; it returns when
/// everything is finished and left. What it writes to disk is its user's alone ([`private_files`]). Exit codes: 0 an
/// orderly end, 1 the service failed or was ended by a second signal, 64 the configuration is wrong, 69 the service
/// cannot have the address that it is to listen on.
///
/// A service calls this in its library, and its binary calls that: an asynchronous function is compiled in the crate that
/// polls it, so the binary would compile all of the library's once more.
///
/// ```no_run
/// # use service_kit::{config::{CommonOptions, ServiceConfig}, service};
/// # #[derive(clap::Parser)] struct Config { #[command(flatten)] common: CommonOptions }
/// # impl ServiceConfig for Config {
/// #     fn common(&self) -> &CommonOptions { &self.common }
/// #     fn health_address(&self) -> std::net::SocketAddr { ([127, 0, 0, 1], 7070).into() }
/// # }
/// fn main() -> std::process::ExitCode {
///     service::main("mail", |config: Config, shutdown| async move {
///         shutdown.cancelled().await;
///         Ok(())
///     })
/// }
/// ```
pub fn main<C, F>(name: &'static str, run: impl FnOnce(C, CancellationToken) -> F) -> ExitCode
where
    C: ServiceConfig,
    F: Future<Output = Result<(), Failure>>,
{
    private_files::by_default();
    let config = match config::load::<C>(C::mistakes) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if config.common().healthcheck {
        return health::check(config.health_address(), config.speaks_tls());
    }
    let _log_end = match telemetry::init(&config.common().log, config.common().log_format) {
        Ok(end) => end,
        Err(mistake) => {
            config::report(name, &[format!("--log (RUST_LOG) = \"{}\": {mistake}", config.common().log)]);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    config::warn_of_misspelt_variables::<C>();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %chain(&error), "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(supervise(name, config, run));
    // A task that blocks (a DNS look-up, say) must not hold up the end for ever.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

async fn supervise<C, F>(name: &'static str, config: C, run: impl FnOnce(C, CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    let signals = match shutdown::Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(error = %chain(&error), "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    };
    let token = CancellationToken::new();
    match shutdown::run_until_second_signal(signals, token.clone(), run(config, token)).await {
        Some(Ok(())) => {
            tracing::info!(service = name, "ended");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            tracing::error!(service = name, error = %chain(error.as_ref()), "failed");
            exit_code(error.as_ref())
        }
        None => ExitCode::FAILURE,
    }
}

/// The exit code for a failure. What started the service may do something about an address that is taken.
fn exit_code(failure: &(dyn Error + 'static)) -> ExitCode {
    let mut causes = std::iter::successors(Some(failure), |error| (*error).source());
    if causes.any(|cause| cause.is::<BindError>()) { ExitCode::from(EXIT_UNAVAILABLE) } else { ExitCode::FAILURE }
}
