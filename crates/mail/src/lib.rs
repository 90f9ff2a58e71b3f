//! `mail`: takes a message over HTTP and hands it to an SMTP server, or to a folder.
//!
//! A message's way, which is also the way to read this:
//!
//! | step | module |
//! |---|---|
//! | the request, and the answer to it | [`http`], [`error`] |
//! | whom it goes to and comes from, what is sent | [`recipient`], [`sender`], [`message`] |
//! | its turn, the deadline, the counting | [`mailer`], [`metrics`] |
//! | over SMTP, or into a folder | [`mod@transport`], [`smtp`], [`folder`] |
//! | how that can end | [`delivery`] |
//! | whether it works at all | [`health`] |
//! | what can be configured | [`config`], [`smtp_options`] |
//!
//! The promise: 200 is answered only once the other side is responsible for the message, everything ends in bounded time,
//! and whoever gets another answer learns whether the message may be sent again.

pub mod config;
pub mod delivery;
pub mod error;
pub mod folder;
pub mod health;
pub mod http;
pub mod mailer;
pub mod message;
pub mod metrics;
pub mod recipient;
pub mod sender;
pub mod smtp;
pub mod smtp_options;
pub mod transport;

use std::sync::Arc;

use axum::Router;
use discovery::ServiceName;
use heartbeat::{Details, Heartbeat, HeartbeatMetrics};
use prometheus_client::registry::Registry;
use service_kit::{
    app,
    health::Readiness,
    serve::{ServeOptions, bind, serve},
    service::Failure,
};
use tokio_util::sync::CancellationToken;

use config::Config;
use folder::Folder;
use health::Health;
use http::App;
use mailer::{Limits, Mailer};
use metrics::SendMetrics;
use smtp::SmtpTransport;
use transport::Transport;

/// Connections at the same time. Each may hold a text of 256 KiB.
const CONNECTIONS_MAX: usize = 1024;

/// The service without its surroundings: what [`run`] serves and keeps an eye on.
#[derive(Debug)]
pub struct Service {
    /// Where messages go.
    pub transport: Arc<Transport>,
    /// Whether they get there.
    pub health: Health,
    /// `POST /`, and what every service answers.
    pub router: Router,
}

impl Service {
    /// Puts the parts together; `metrics` holds what the surroundings count. Connects to nobody.
    ///
    /// # Errors
    /// What [`Config`]'s check for mistakes would have said.
    pub fn assemble(config: &Config, mut metrics: Registry) -> Result<Self, Failure> {
        let readiness = Readiness::new();
        let transport = Arc::new(transport(config)?);
        let health = Health::new(transport.name(), readiness.clone());
        let sends = SendMetrics::register(&mut metrics);
        let mailer = Mailer::new(Arc::clone(&transport), limits(config), health.clone(), sends);
        let app = Arc::new(App { mailer, from: config.from.clone(), subject: config.subject.clone() });
        let router = app::assemble(http::routes(app), readiness, metrics);
        Ok(Self { transport, health, router })
    }
}

/// Serves until `shutdown`, then leaves in order: deregisters while it still serves, finishes what is under way, ends.
///
/// Needs neither a registry nor the SMTP server to start.
///
/// # Errors
/// The address cannot be bound.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut metrics = Registry::default();
    let details = Details {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        // Not /readyz: see `health` for why an instance stays in rotation when its transport fails.
        health: Some("/healthz".parse()?),
        metrics: HeartbeatMetrics::register(&mut metrics),
        ..Details::default()
    };
    let Service { transport, health, router } = Service::assemble(&config, metrics)?;

    let listener = bind(config.listen).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, transport = transport.name(), "listening");

    let finish = CancellationToken::new();
    let watching = health::watch(health, Arc::clone(&transport), config.smtp.check_interval, finish.clone());
    let watching = tokio::spawn(watching);
    let serving = tokio::spawn(serve(listener, router, serve_options(&config), finish.clone()));
    let heartbeat = Heartbeat::start(service_name(), address, &config.heartbeat, details);

    shutdown.cancelled().await;
    heartbeat.deregister().await;
    finish.cancel();
    serving.await?;
    watching.await?;
    transport.close().await;
    Ok(())
}

fn service_name() -> ServiceName {
    "mail".parse().expect("a DNS label")
}

/// SMTP when a server is configured, a folder otherwise.
fn transport(config: &Config) -> Result<Transport, Failure> {
    let Some(server) = config.smtp.server().map_err(|mistakes| mistakes.join("; "))? else {
        tracing::info!(folder = %config.dir.display(), "no SMTP server is configured: messages become files");
        return Ok(Transport::Folder(Folder::new(config.dir.clone())));
    };
    if server.sends_password_in_clear() {
        tracing::warn!("the SMTP password is sent without encryption; set MAIL_SMTP_TLS");
    }
    tracing::info!(host = server.host, port = server.port, tls = ?server.tls_mode, "messages go over SMTP");
    Ok(Transport::Smtp(SmtpTransport::new(server, config.smtp.idle)))
}

fn limits(config: &Config) -> Limits {
    Limits { sends_max: config.sends_max.into(), queue_wait: config.queue_wait, deadline: config.deadline }
}

/// Whatever is under way at the end may finish.
fn serve_options(config: &Config) -> ServeOptions {
    ServeOptions { connections_max: CONNECTIONS_MAX, drain_deadline: config.request_max(), ..ServeOptions::default() }
}
