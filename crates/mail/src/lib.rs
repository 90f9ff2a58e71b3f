//! `mail`: takes a message over HTTP and hands it to an SMTP server, or to a folder.
//!
//! A message's way, which is also the way to read this:
//!
//! | step | room |
//! |---|---|
//! | requests in, answers out | [`http`], [`error`] |
//! | what a request asks for, composed | [`submission`], [`message`], [`templates`] |
//! | stored, then sent until it is delivered | [`outbox`] |
//! | sent while its client waits | [`plain`] |
//! | one message to each of many, with their addresses | [`broadcaster`], [`userlist`] |
//! | over SMTP, or into a folder; how that can end; whether it works | [`mod@transport`] |
//! | what became of messages, sent to the webhook's receiver | [`webhook`] |
//! | whether other instances share its outbox | `siblings` |
//! | what can be configured, what is measured | [`config`], [`metrics`] |
//!
//! The promise: 200 is answered only once the other side is responsible for the message, 202 only once it is on our
//! disk; everything ends in bounded time, and every other answer says whether the message may be sent again.

pub mod broadcaster;
pub mod config;
pub mod error;
pub mod http;
pub mod message;
pub mod metrics;
pub mod outbox;
pub mod plain;
mod siblings;
pub mod submission;
pub mod templates;
pub mod transport;
pub mod userlist;
pub mod webhook;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use axum::{Router, middleware::from_fn_with_state};
use discovery::{HonouredKeys, OpenAccess, ServiceName};
use heartbeat::{AddressProof, Details, Heartbeat, HeartbeatMetrics};
use prometheus_client::registry::Registry;
use service_kit::{
    app,
    browser::Guard,
    connections::Connections,
    health::Readiness,
    serve::{ServeOptions, bind, serve},
    service::{self, Failure},
    tokens::{self, Tokens, warn_if_open},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use broadcaster::Broadcaster;
use config::Config;
use http::Api;
use metrics::{OutboxMetrics, SendMetrics};
use outbox::{
    Outbox,
    workers::{
        dispatcher::{DispatchOptions, Dispatcher},
        sweeper::{self, QueueMetrics},
        userlist_sync::UserlistSync,
    },
};
use plain::{
    Plain,
    direct_sender::{DirectSender, Limits},
};
use submission::ComposeConfig;
use transport::{
    Transport,
    folder::Folder,
    health::{self, Health},
    smtp::{self, SmtpTransport},
};
use userlist::Userlist;
use webhook::{Webhook, WebhookMetrics};

/// Connections at the same time, by default. Each may hold a text of 256 KiB.
const CONNECTIONS_MAX: usize = 1024;

/// The service without its surroundings: what [`run`] serves and keeps an eye on.
#[derive(Debug)]
pub struct Service {
    /// Where messages go.
    pub transport: Arc<Transport>,
    /// Whether they get there.
    pub health: Health,
    /// `POST /`, `/v1`, and what every service answers.
    pub router: Router,
    /// What is being sent while its client waits.
    pub plain: Plain,
    /// Sends what is in the outbox, once it runs.
    pub dispatcher: Dispatcher,
    /// Turns broadcasts into messages, once it runs.
    pub broadcaster: Broadcaster,
    /// Sends status changes to userlist, once it runs.
    pub userlist_sync: UserlistSync,
    /// Sends events to the webhook's receiver, where one is configured and once it runs.
    pub webhook: Option<Webhook>,
    /// The outbox.
    pub outbox: Outbox,
    /// What is measured of it.
    pub queue: QueueMetrics,
}

impl Service {
    /// Puts the parts together; `metrics` holds what the surroundings count. Opens no connection.
    ///
    /// # Errors
    /// What [`Config`]'s check for mistakes would have said.
    pub fn assemble(config: &Config, mut metrics: Registry) -> Result<Self, Failure> {
        let readiness = Readiness::new();
        let transport = Arc::new(transport(config)?);
        let health = Health::new(transport.name(), readiness.clone());
        let sends = SendMetrics::register(&mut metrics);
        let queue = QueueMetrics::register(&mut metrics);
        let accepted = OutboxMetrics::register(&mut metrics);
        let direct_sender =
            Arc::new(DirectSender::new(Arc::clone(&transport), limits(config), health.clone(), sends.clone()));
        let outbox = Outbox::new(config.outbox.place()?, config.outbox.spool()?, config.outbox.webhook.kinds());
        let webhook_metrics = WebhookMetrics::register(&mut metrics);
        let webhook = Webhook::new(outbox.clone(), config.outbox.webhook.clone(), webhook_metrics)?;
        let compose_config = Arc::new(ComposeConfig::of(config)?);
        let plain = Plain { outbox: outbox.clone(), direct_sender, tasks: TaskTracker::new() };
        let userlist = Userlist::new(config.outbox.gateway.clone(), config.outbox.userlist_token_file.clone());
        let userlist_sync = UserlistSync { outbox: outbox.clone(), userlist: userlist.clone() };
        let broadcaster = Broadcaster {
            outbox: outbox.clone(),
            userlist: userlist.clone(),
            compose_config: Arc::clone(&compose_config),
        };
        let api = Arc::new(Api::new(outbox.clone(), compose_config, userlist, plain.clone(), accepted));
        let tokens = Tokens::load(config.tokens_file.as_deref())?;
        tokens.register(&mut metrics);
        warn_if_open(&tokens, config.listen, "--tokens-file (MAIL_TOKENS_FILE)");
        let routes = http::routes(api, |routes| routes.layer(from_fn_with_state(tokens, tokens::authenticate)));
        let announced = config.heartbeat.advertise.as_ref().map(|address| address.host.to_string());
        let guard = Guard::new(&config.common.browser, announced.as_deref()).open_to_pages(&[http::UNSUBSCRIBE]);
        let router = app::assemble(routes, guard, readiness, metrics);
        let dispatcher = Dispatcher {
            outbox: outbox.clone(),
            transport: Arc::clone(&transport),
            health: health.clone(),
            metrics: sends,
            options: dispatch_options(config),
        };
        Ok(Self { transport, health, router, plain, dispatcher, broadcaster, userlist_sync, webhook, outbox, queue })
    }
}

/// The program: its configuration, its signals, its exit code ([`service_kit::service::main`]); or the worker that
/// renders templates.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == templates::worker::COMMAND) {
        return templates::worker::main();
    }
    service::main("mail", run)
}

/// Serves until `shutdown`, then leaves in order: deregisters while it still serves, finishes what is under way, ends.
///
/// Needs neither a registry nor the SMTP server to start.
///
/// # Errors
/// The address cannot be bound.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut metrics = Registry::default();
    let connections = Connections::new(config.connections.bounds(CONNECTIONS_MAX));
    connections.register(&mut metrics, "http");
    connections.register_unread(&mut metrics, "http");
    let proof = AddressProof::default();
    let place = config.outbox.place()?;
    let own_outbox = siblings::identity(&place);
    let details = Details {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        // Not /readyz: see `health` for why an instance stays in rotation when its transport fails.
        health: Some("/healthz".parse()?),
        meta: meta(&config, own_outbox.as_deref()),
        metrics: HeartbeatMetrics::register(&mut metrics),
        proof: proof.clone(),
        ..Details::default()
    };
    let Service { transport, health, router, plain, dispatcher, broadcaster, userlist_sync, webhook, outbox, queue } =
        Service::assemble(&config, metrics)?;

    health.await_outbox();
    if let Err(error) = config.outbox.spool()?.check() {
        tracing::warn!(%error, "large messages cannot be accepted: the folder for them (--spool-dir) cannot be used");
    }
    let listener = bind(config.listen).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, transport = transport.name(), "listening");

    let finish = CancellationToken::new();
    let watching = health::watch(health.clone(), Arc::clone(&transport), config.smtp.check_interval, finish.clone());
    let watching = tokio::spawn(watching);
    let sending = tokio::spawn(dispatcher.run(finish.clone()));
    let broadcasting = tokio::spawn(broadcaster.run(finish.clone()));
    let syncing_userlist = tokio::spawn(userlist_sync.run(finish.clone()));
    let sending_events = webhook.map(|webhook| tokio::spawn(webhook.run(finish.clone())));
    let sweeping = tokio::spawn(sweeper::run(outbox.clone(), queue, config.outbox.keep, finish.clone()));
    let router = router.merge(proof.routes());
    let serving = tokio::spawn(serve(listener, router, serve_options(&config, connections), finish.clone()));
    let heartbeat = Heartbeat::start(service_name(), address, &config.heartbeat, details);
    heartbeat::setting::follow_log_filter(&config.heartbeat, &service_name(), &config.common.log);
    let looking = own_outbox
        .filter(|_| !place.is_shared())
        .map(|own| tokio::spawn(siblings::watch(config.heartbeat.clone(), service_name(), own, heartbeat.state())));

    shutdown.run_until_cancelled(health.report(|condition| heartbeat.set_condition(condition))).await;
    if let Some(looking) = looking {
        looking.abort();
    }
    heartbeat.deregister().await;
    finish.cancel();
    serving.await?;
    watching.await?;
    sweeping.await?;
    broadcasting.await?;
    syncing_userlist.await?;
    if let Some(sending_events) = sending_events {
        sending_events.await?;
    }
    sending.await?;
    plain.finish_within(config.request_max()).await;
    outbox.close().await;
    transport.close().await;
    Ok(())
}

fn service_name() -> ServiceName {
    "mail".parse().expect("a DNS label")
}

/// What others need to know: about the outbox, and who may ask.
fn meta(config: &Config, own_outbox: Option<&str>) -> BTreeMap<String, String> {
    let keys = config.outbox.honoured_keys().map(|paths| (HonouredKeys::META, paths));
    let outbox = own_outbox.map(|identity| (siblings::META, identity));
    let about_outbox = keys.into_iter().chain(outbox).map(|(key, value)| (key.to_owned(), value.to_owned()));
    about_outbox.chain(OpenAccess::announced(config.tokens_file.is_none())).collect()
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
    Ok(Transport::Smtp(Box::new(SmtpTransport::new(server, smtp_connections(config)))))
}

fn smtp_connections(config: &Config) -> smtp::Connections {
    // What is sent at once and what is in the outbox have their places side by side.
    let open_max = 2 * usize::from(config.sends_max);
    smtp::Connections { idle_max: config.smtp.idle, messages_max: config.smtp.messages_max, open_max }
}

fn limits(config: &Config) -> Limits {
    Limits { sends_max: config.sends_max.into(), queue_wait: config.queue_wait, deadline: config.deadline }
}

fn dispatch_options(config: &Config) -> DispatchOptions {
    DispatchOptions {
        sends_max: config.sends_max.into(),
        step_max: config.smtp.step_max,
        patience: config.outbox.patience,
        grace: config.deadline,
        schedule: config.outbox.schedule(),
        domain: config.outbox.domain_limits(),
    }
}

/// Requests under way at the end may finish.
fn serve_options(config: &Config, connections: Connections) -> ServeOptions {
    ServeOptions { connections, drain_deadline: config.request_max(), ..ServeOptions::default() }
}
