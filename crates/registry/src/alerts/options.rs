//! Who is told, and from when on.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use axum::http::Uri;
use discovery::ServiceName;
use service_kit::duration;

use super::down_detector::Rules;

/// Whom to tell about services that are gone.
#[derive(Debug, Clone, clap::Args)]
pub struct AlertOptions {
    /// Where alerts are posted as JSON, with a `text` that chat systems show.
    #[arg(long, env = "REGISTRY_ALERT_WEBHOOK", value_name = "URL", value_parser = parse_webhook)]
    pub alert_webhook: Option<Uri>,
    /// Who gets alerts by e-mail, through an instance of the service `mail`.
    #[arg(long, env = "REGISTRY_ALERT_MAIL", value_name = "ADDRESS")]
    pub alert_mail: Option<String>,
    /// A file with the API token that `mail` asks for (scope `mail:send`). It is read for every message.
    #[arg(long, env = "REGISTRY_ALERT_MAIL_TOKEN_FILE", value_name = "FILE", requires = "alert_mail")]
    pub alert_mail_token_file: Option<PathBuf>,
    /// Where an alert sends people for more: the base URL of a gateway's admin side (`/explain?service=NAME` is appended), or any
    /// URL in which `{service}` stands for the name.
    #[arg(long, env = "REGISTRY_ALERT_LINK", value_name = "URL", value_parser = parse_link)]
    pub alert_link: Option<String>,
    /// How many instances a service needs, as mail=2,userlist=1. One that is not named needs one, once it was there.
    #[arg(long, env = "REGISTRY_MIN_INSTANCES", value_name = "SERVICE=N", value_delimiter = ',', value_parser = parse_minimum)]
    pub min_instances: Vec<(ServiceName, usize)>,
    /// How long a service must be so, or etcd be out of reach, before people are told.
    #[arg(long, env = "REGISTRY_ALERT_AFTER", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub alert_after: Duration,
    /// What happens within this time becomes one message.
    #[arg(long, env = "REGISTRY_ALERT_WINDOW", value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub alert_window: Duration,
}

// === impl AlertOptions ===

impl AlertOptions {
    /// Whether any receiver is configured.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.alert_webhook.is_some() || self.alert_mail.is_some()
    }

    pub(super) fn rules(&self) -> Rules {
        let minimum: BTreeMap<_, _> = self.min_instances.iter().cloned().collect();
        Rules { minimum, after: self.alert_after, window: self.alert_window }
    }
}

fn parse_webhook(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| "it is no URL; write for example https://chat.example/hooks/abc".to_owned())
}

fn parse_link(text: &str) -> Result<String, String> {
    parse_webhook(&text.replace("{service}", "service")).map(|_| text.to_owned())
}

fn parse_minimum(text: &str) -> Result<(ServiceName, usize), String> {
    let (service, count) = text.split_once('=').ok_or_else(|| "write SERVICE=N, as in mail=2".to_owned())?;
    let service = service.trim().parse::<ServiceName>().map_err(|error| error.to_string())?;
    let count = count.trim().parse().map_err(|_| "N is a number of instances, as in mail=2".to_owned())?;
    Ok((service, count))
}
