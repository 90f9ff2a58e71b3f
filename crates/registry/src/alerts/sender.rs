//! Delivers a message: to the webhook, and to a `mail` instance found in our own catalog.
//!
//! Each way is tried on its own, again and again with growing pauses, for as long as `ATTEMPTS_MAX` takes: about ten
//! minutes. What is not taken by then is logged as lost, because the next message matters more. A way that does not work
//! holds up its own messages, which stay in their order, and no other way's.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderValue, Request, Uri, header},
};
use discovery::{ServiceName, deadlines};
use serde_json::{Value, json};
use service_kit::{Secret, backoff::Backoff, chain, client::HttpClient};
use tokio::{sync::Mutex, task::JoinSet};

use super::{
    AlertOptions,
    message::{Links, Message},
};
use crate::catalog::Catalog;

/// How often each way is tried.
const ATTEMPTS_MAX: usize = 24;
/// How long one attempt may take: a `mail` may need its time to hand the message over.
const DEADLINE: Duration = deadlines::ALERT_ATTEMPT;
/// How much of an answer is looked at.
const ANSWER_MAX_BYTES: usize = 4096;

/// Knows where messages go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AlertSender(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    webhook: Option<Uri>,
    mail: Option<String>,
    mail_token: Option<PathBuf>,
    client: HttpClient,
    catalog: Catalog,
    sender: String,
    links: Links,
    webhook_turn: Mutex<()>,
    mail_turn: Mutex<()>,
}

// === impl AlertSender ===

impl AlertSender {
    /// By `options`; `sender` is how this replica signs.
    #[must_use]
    pub fn new(options: &AlertOptions, client: HttpClient, catalog: Catalog, sender: String) -> Self {
        let webhook = options.alert_webhook.clone();
        let mail = options.alert_mail.clone();
        let mail_token = options.alert_mail_token_file.clone();
        let links = Links::new(options.alert_link.clone());
        let (webhook_turn, mail_turn) = Default::default();
        Self(Arc::new(Inner { webhook, mail, mail_token, client, catalog, sender, links, webhook_turn, mail_turn }))
    }

    /// Delivers by every way there is: a task for each, which ends with whether the message was taken. Dropping them ends the
    /// attempts.
    #[must_use]
    pub fn deliver(&self, message: &Message) -> JoinSet<bool> {
        let mut ways = JoinSet::new();
        if let Some(uri) = self.0.webhook.clone() {
            let this = self.clone();
            let body = message.to_json(&self.0.sender, &self.0.links);
            ways.spawn(async move {
                let _turn = this.0.webhook_turn.lock().await;
                persist("webhook", || this.post(uri.clone(), None, &body)).await
            });
        }
        if let Some(address) = &self.0.mail {
            let subject = format!("[muster] {}", message.subject());
            let text = message.text(&self.0.links);
            let this = self.clone();
            let body = json!({ "address": address, "subject": subject, "message": text });
            ways.spawn(async move {
                let _turn = this.0.mail_turn.lock().await;
                persist("mail", || this.mail(&body)).await
            });
        }
        ways
    }

    /// Hands the message to the first instance of `mail` that takes it.
    async fn mail(&self, body: &Value) -> Result<(), String> {
        let mail: ServiceName = "mail".parse().expect("a service's name");
        let service = self.0.catalog.service(&mail);
        let authorization = self.authorization()?;
        let entries = service.iter().flat_map(|service| &service.instances);
        let mut failure = "no instance of mail is registered and able to work".to_owned();
        for entry in entries.filter(|entry| entry.status().is_in_rotation()) {
            let url = format!("http://{}/", entry.registered.instance.address);
            let Ok(uri) = url.parse() else { continue };
            match self.post(uri, authorization.clone(), body).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// What `mail` is shown, if it asks for a token.
    fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let Some(path) = &self.0.mail_token else { return Ok(None) };
        let unusable = |reason: String| format!("cannot use the token in {}: {reason}", path.display());
        let token = Secret::from_file(path).map_err(|error| unusable(error.to_string()))?;
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()));
        value.map(Some).map_err(|_| unusable("it is no token".to_owned()))
    }

    async fn post(&self, uri: Uri, authorization: Option<HeaderValue>, body: &Value) -> Result<(), String> {
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
        let mut request = request.body(Bytes::from(body.to_string())).map_err(|error| error.to_string())?;
        request.headers_mut().extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        // Neither path nor query in an error: a webhook's are its password.
        match self.0.client.send(request, DEADLINE, ANSWER_MAX_BYTES).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!("{authority} answered {}", answer.status.as_u16())),
            Err(error) => Err(format!("{authority}: {}", chain(&error))),
        }
    }
}

/// Tries until it succeeds, or has been tried often enough; whether it did.
async fn persist<F: Future<Output = Result<(), String>>>(way: &'static str, attempt: impl Fn() -> F) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    for attempts in 1..=ATTEMPTS_MAX {
        match attempt().await {
            Ok(()) => return true,
            Err(reason) if attempts == ATTEMPTS_MAX => tracing::error!(way, reason, "giving up on an alert"),
            Err(reason) => {
                tracing::warn!(way, reason, attempts, "an alert was not accepted; retrying");
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
    false
}
