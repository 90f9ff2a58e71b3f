//! The webhook, as it is configured.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use discovery::ForbiddenIp;
use service_kit::{Secret, duration};
use url::{Host, Url};

use super::signature::Signer;
use crate::outbox::{
    store::events::{EVENT_KINDS, EventKind, Kinds},
    workers::retry_schedule::Schedule,
};

/// The part of the configuration that is about the webhook.
#[derive(Debug, Clone, clap::Args)]
pub struct WebhookOptions {
    /// Where events about messages are sent: each is sent with POST, signed, until it is answered with 2xx. http or
    /// https; addresses of this host and of private networks are fine. Default: no receiver.
    #[arg(
        id = "webhook-url",
        long = "webhook-url",
        env = "MAIL_WEBHOOK_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub url: Option<Secret>,
    /// A file with the secret that events are signed with (Standard Webhooks): whsec_ and the base64 of 24 to 64 bytes.
    /// Several, one on a line, all sign. Read again for each round of events.
    #[arg(
        id = "webhook-secret-file",
        long = "webhook-secret-file",
        env = "MAIL_WEBHOOK_SECRET_FILE",
        value_name = "FILE"
    )]
    pub secret_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file, and only them, for a receiver with https. Default: those of the system.
    #[arg(id = "webhook-ca-file", long = "webhook-ca-file", env = "MAIL_WEBHOOK_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Which events, separated by commas: delivered, failed, bounced, complained, unsubscribed. Default: all of them.
    #[arg(
        id = "webhook-events", long = "webhook-events",
        env = "MAIL_WEBHOOK_EVENTS",
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = parse_kind
    )]
    pub events: Vec<EventKind>,
    /// The wait after an event was first not taken. It doubles with each one, up to an hour.
    #[arg(
        id = "webhook-retry-first", long = "webhook-retry-first",
        env = "MAIL_WEBHOOK_RETRY_FIRST",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = duration::parse_positive
    )]
    pub retry_first: Duration,
    /// How long an event is sent again before it is given up. At most --keep.
    #[arg(
        id = "webhook-retry-for", long = "webhook-retry-for",
        env = "MAIL_WEBHOOK_RETRY_FOR",
        value_name = "DURATION",
        default_value = "3d",
        value_parser = duration::parse_positive
    )]
    pub retry_for: Duration,
    /// The most events that wait for the receiver. Beyond that the oldest are dropped: they take about 1 KB each in the
    /// outbox.
    #[arg(
        id = "webhook-waiting-max", long = "webhook-waiting-max",
        env = "MAIL_WEBHOOK_WAITING_MAX",
        value_name = "NUMBER",
        default_value = "100000",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000)
    )]
    pub waiting_max: u32,
}

/// The longest wait between two attempts at an event.
const RETRY_MAX: Duration = Duration::from_secs(3600);

impl WebhookOptions {
    /// The kinds of events that are kept for the receiver; none without one.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        match (&self.url, self.events.is_empty()) {
            (None, _) => Kinds::default(),
            (Some(_), true) => EVENT_KINDS.into_iter().collect(),
            (Some(_), false) => self.events.iter().copied().collect(),
        }
    }

    /// Where the receiver is.
    ///
    /// # Errors
    /// Says what to change, without the URL, which may hold a secret.
    pub fn receiver(&self) -> Result<Option<Url>, String> {
        let Some(url) = &self.url else { return Ok(None) };
        receiver(url.expose()).map(Some).map_err(|reason| format!("--webhook-url (MAIL_WEBHOOK_URL): {reason}"))
    }

    /// Signs events.
    ///
    /// # Errors
    /// Says what to change, naming the option.
    pub fn signer(&self) -> Result<Signer, String> {
        let file = self.secret_file.as_deref();
        let file =
            file.ok_or("--webhook-url needs --webhook-secret-file (MAIL_WEBHOOK_SECRET_FILE): events are signed")?;
        Signer::from_file(file).map_err(|reason| format!("--webhook-secret-file (MAIL_WEBHOOK_SECRET_FILE): {reason}"))
    }

    /// When to send an event again.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule { first: self.retry_first, max: RETRY_MAX.max(self.retry_first) }
    }

    /// What is wrong, one sentence each.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        match self.receiver() {
            Ok(None) => Vec::new(),
            Ok(Some(_)) => self.signer().err().into_iter().collect(),
            Err(mistake) => vec![mistake],
        }
    }
}

/// Why nothing is sent to an address; see [`discovery::forbidden`].
pub(super) fn check(ip: IpAddr) -> Result<(), &'static str> {
    ForbiddenIp::check(ip).map_err(ForbiddenIp::reason)
}

fn receiver(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "it is no URL; write https://HOST/PATH")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password; receivers know us by the signature".to_owned());
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::from(ip)),
        Some(Host::Domain(_)) | None => None,
    };
    literal.map_or(Ok(()), check).map_err(|reason| format!("its address {reason}"))?;
    Ok(url)
}

fn parse_kind(text: &str) -> Result<EventKind, String> {
    let known = EVENT_KINDS.into_iter().find(|kind| kind.as_str() == text.trim());
    known.ok_or_else(|| "it is one of delivered, failed, bounced, complained, unsubscribed".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    fn options(args: &[&str]) -> WebhookOptions {
        Config::try_parse_from([&["mail"], args].concat()).unwrap().outbox.webhook
    }

    #[test]
    fn without_a_receiver_no_event_is_kept_and_with_one_all_or_those_that_were_named() {
        assert_eq!(options(&["--webhook-events", "failed"]).kinds(), Kinds::default());
        let url = ["--webhook-url", "http://127.0.0.1:9000/hook"];
        assert!(EVENT_KINDS.iter().all(|kind| options(&url).kinds().has(*kind)));
        let some = options(&[url[0], url[1], "--webhook-events", "failed,bounced"]).kinds();
        let has: Vec<bool> = EVENT_KINDS.iter().map(|kind| some.has(*kind)).collect();
        assert_eq!(has, [false, true, true, false, false]);
        assert!(Config::try_parse_from(["mail", "--webhook-events", "opened"]).is_err());
    }

    #[test]
    fn a_receiver_that_nothing_may_be_sent_to_is_a_mistake_that_shows_no_secret() {
        for bad in [
            "nonsense-hunter2",
            "ftp://host/hunter2",
            "https://user:hunter2@host/",
            "http://169.254.169.254/latest?hunter2",
            "http://[fe80::1]/hunter2",
            "http://0.0.0.0/hunter2",
        ] {
            let options = options(&["--webhook-url", bad, "--webhook-secret-file", "/no"]);
            let mistakes = options.mistakes().join("\n");
            assert!(mistakes.contains("MAIL_WEBHOOK_URL") && !mistakes.contains("hunter2"), "{bad}: {mistakes}");
            assert!(!format!("{options:?}").contains("hunter2"));
        }
        let unsigned = options(&["--webhook-url", "http://localhost/hook"]).mistakes();
        assert!(unsigned.len() == 1 && unsigned[0].contains("MAIL_WEBHOOK_SECRET_FILE"), "{unsigned:?}");
    }
}
