//! A small service that writes down every request that reaches it, so that a test can tell what was lost and what was
//! sent twice. It registers like any other service, and can be killed, frozen and restarted.
//!
//! Each request is one line, `METHOD NUMBER`, appended to a file before it is answered: what was received survives the
//! death of the process. The number is the `x-number` that the client sent. `x-sleep-ms` delays the answer.
//!
//! With `TEST_INSTANCE_WORKERS` its capacity is known, whatever the machine: so many requests are worked on at the same
//! time, for `TEST_INSTANCE_WORK` each, and the others wait in the order in which they came.

use std::{fs::File, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    routing::any,
};
use clap::Parser;
use heartbeat::{Details, Heartbeat, HeartbeatOptions};
use prometheus_client::registry::Registry;
use service_kit::{
    app,
    browser::Guard,
    config::{CommonOptions, ServiceConfig},
    duration,
    health::Readiness,
    serve::{ServeOptions, bind, serve},
    service::{self, Failure},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How a test instance is started.
#[derive(Debug, Clone, Parser)]
struct Config {
    /// Where requests come in.
    #[arg(long, env = "TEST_INSTANCE_LISTEN")]
    listen: SocketAddr,
    /// Where they are written down. Appended to, so that it outlives the process.
    #[arg(long, env = "TEST_INSTANCE_RECORD")]
    record: PathBuf,
    /// How many requests it works on at the same time.
    #[arg(long, env = "TEST_INSTANCE_WORKERS", default_value_t = Semaphore::MAX_PERMITS)]
    workers: usize,
    /// How long each of them takes.
    #[arg(long, env = "TEST_INSTANCE_WORK", default_value = "0s", value_parser = duration::parse)]
    work: Duration,
    #[command(flatten)]
    heartbeat: HeartbeatOptions,
    #[command(flatten)]
    common: CommonOptions,
}

/// What every request needs.
struct TestInstance {
    record: File,
    name: String,
    workers: Semaphore,
    work: Duration,
}

fn main() -> ExitCode {
    service::main("test-instance", run)
}

async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let record = File::options().create(true).append(true).open(&config.record)?;
    let name = config.heartbeat.instance_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let test_instance =
        Arc::new(TestInstance { record, name, workers: Semaphore::new(config.workers), work: config.work });
    let api = Router::new().route("/", any(receive)).route("/{*rest}", any(receive)).with_state(test_instance);
    let router = app::assemble(api, Guard::new(&config.common.browser, None), Readiness::new(), Registry::default());

    let listener = bind(config.listen).await?;
    let address = listener.local_addr()?;
    let finish = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, router, ServeOptions::default(), finish.clone()));
    let heartbeat = Heartbeat::start("test-instance".parse()?, address, &config.heartbeat, Details::default());

    shutdown.cancelled().await;
    heartbeat.deregister().await;
    finish.cancel();
    serving.await?;
    Ok(())
}

async fn receive(
    State(test_instance): State<Arc<TestInstance>>,
    method: Method,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> (StatusCode, [(&'static str, String); 1], String) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let line = format!("{method} {}\n", text("x-number"));
    // One write of a short line to a file that is only appended to: lines of several requests never mix.
    let status = match (&test_instance.record).write_all(line.as_bytes()) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if !test_instance.work.is_zero() {
        let worker = test_instance.workers.acquire().await;
        tokio::time::sleep(test_instance.work).await;
        drop(worker);
    }
    if let Ok(sleep_ms) = text("x-sleep-ms").parse() {
        tokio::time::sleep(Duration::from_millis(sleep_ms)).await;
    }
    (status, [("x-test-instance", test_instance.name.clone())], format!("{} bytes\n", body.len()))
}

// === impl Config ===

impl ServiceConfig for Config {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn health_address(&self) -> SocketAddr {
        self.listen
    }
}
