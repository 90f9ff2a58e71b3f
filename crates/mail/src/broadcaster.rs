//! Broadcasts: one message to each user whom a selection finds, page by page through the gateway.
//!
//! ```text
//! POST /v1/broadcasts {"template":"news","filter":{"tag":"beta"},"data":{"version":"2.0"}}
//! ```
//!
//! The template is filled with `data`, and for each user with `user.name`, `user.email`, `user.attributes` and
//! `unsubscribe_url`. Only active users are asked for; who is on the suppression list, or whose attributes do not fill
//! the template, is left out, counted, and named with the reason ([`skips`](crate::outbox::store::skips)). Each message
//! carries List-Unsubscribe and List-Unsubscribe-Post (RFC 8058), so that mail programs show a button. While userlist
//! cannot be asked the broadcast waits and says why.
//!
//! Links lead to `--public-url`. Without it there are no broadcasts: a link that leads nowhere keeps readers who want
//! to leave, and makes them complain instead.

mod page;
mod rehearsal;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::time::UnixMillis;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    outbox::{
        Outbox, OutboxError,
        store::{
            broadcasts::{Claimed, Step},
            openapi::{Metadata, Tag},
        },
    },
    submission::ComposeConfig,
    templates::Template,
    userlist::{Selection, Userlist, UserlistError},
};

use page::Audience;
pub use page::AudienceError;
pub use rehearsal::{Count, RehearsalError};

/// Users of one page, and messages of one transaction.
const PAGE: u32 = 100;
/// How often the outbox is polled for a broadcast.
const POLL: Duration = Duration::from_secs(1);
/// How long userlist is left alone after it could not be asked.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a broadcast waits for an option that an operator has to set.
const UNSET_PAUSE: Duration = Duration::from_secs(60);
/// Why there are no broadcasts without that option.
pub const NO_PUBLIC_URL: &str = "readers could not leave: set --public-url (MAIL_PUBLIC_URL) to where they reach this service, \
                                 the gateway's public address and /mail";

/// The body of `POST /v1/broadcasts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BroadcastRequest {
    /// The template's name.
    pub template: String,
    /// Parameters of userlist's `GET /v1/users`, as `{"tag":"beta"}`. `status` is always `active`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    pub filter: Selection,
    /// Values that are the same for everybody.
    #[serde(default)]
    #[schema(value_type = Object, required = false)]
    pub data: Map<String, Value>,
    /// One of the allowed senders.
    #[serde(default)]
    pub from: Option<String>,
    /// What kind of message it is; in nothing that is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Tag>)]
    pub tag: Option<String>,
    /// What else its sender knows it by; in nothing that is sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Metadata, required = false)]
    pub metadata: BTreeMap<String, String>,
    /// Only says whom the broadcast would reach.
    #[serde(default, skip_serializing)]
    pub dry_run: bool,
    /// Only sends the message of the first user to these addresses.
    #[serde(default, skip_serializing)]
    pub test_to: Value,
}

/// A broadcast as it is kept: the request, and the template as it was then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Broadcast {
    /// What was asked for.
    pub request: BroadcastRequest,
    /// A change of the template does not change a broadcast that runs.
    pub template: Template,
}

/// What the worker needs.
#[derive(Debug)]
pub struct Broadcaster {
    /// Where broadcasts are, and where messages go.
    pub outbox: Outbox,
    /// Knows the users.
    pub userlist: Userlist,
    /// What is configured about messages.
    pub compose_config: Arc<ComposeConfig>,
}

impl Broadcaster {
    /// Works until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let claim = Uuid::new_v4().simple().to_string();
        let working = async {
            loop {
                match self.outbox.claim_broadcast(&claim).await {
                    Ok(Some(claimed)) => self.work(claimed).await,
                    // What is wrong with the outbox, the dispatcher says.
                    Ok(None) | Err(_) => sleep(POLL).await,
                }
            }
        };
        shutdown.run_until_cancelled(working).await;
    }

    /// Page after page, until there is no more, or something is wrong.
    async fn work(&self, mut claimed: Claimed) {
        let Ok(broadcast) = serde_json::from_str::<Broadcast>(&claimed.body).map(Arc::new) else {
            let _next_time = self.outbox.note_failure(&claimed, "it cannot be read".to_owned(), None).await;
            return;
        };
        let Some(public) = self.compose_config.options.public.clone() else {
            tracing::warn!(broadcast = claimed.id, reason = NO_PUBLIC_URL, "a broadcast waits");
            let until = Some(UnixMillis::now() + UNSET_PAUSE);
            let _next_time = self.outbox.note_failure(&claimed, NO_PUBLIC_URL.to_owned(), until).await;
            return;
        };
        loop {
            let Some(step) = self.step(&claimed, &broadcast, &public).await else { return };
            let position = step.position.clone();
            match self.outbox.advance(&claimed, step).await {
                Ok(()) => {}
                Err(OutboxError::Conflict { .. }) => return,
                Err(error) => {
                    let reason = service_kit::chain(&error).to_string();
                    return self.pause(&claimed, &reason).await;
                }
            }
            let Some(position) = position else {
                tracing::info!(broadcast = claimed.id, "all messages of the broadcast are in the outbox");
                return;
            };
            claimed.position = position;
        }
    }

    /// The messages of the next page; none when something is wrong, which has been noted then.
    async fn step(&self, claimed: &Claimed, broadcast: &Arc<Broadcast>, public: &Url) -> Option<Step> {
        let asking = Audience::ask(&self.userlist, &self.outbox, &broadcast.request, &claimed.position, PAGE);
        let audience = match asking.await {
            Ok(audience) => audience,
            Err(AudienceError::Userlist(error)) => {
                self.note_failure(claimed, &error).await;
                return None;
            }
            Err(AudienceError::Outbox(error)) => {
                let reason = service_kit::chain(&error).to_string();
                self.pause(claimed, &reason).await;
                return None;
            }
        };
        let compose_config = Arc::clone(&self.compose_config);
        let id = claimed.id.clone();
        let broadcast = Arc::clone(broadcast);
        let public = public.clone();
        let composing = spawn_blocking(move || audience.compose(&compose_config, &public, &id, &broadcast));
        match composing.await.map_err(io::Error::other).flatten() {
            Ok(step) => Some(step),
            // No user is passed over for that.
            Err(error) => {
                self.pause(claimed, &error.to_string()).await;
                None
            }
        }
    }

    async fn note_failure(&self, claimed: &Claimed, error: &UserlistError) {
        // It took the same question for the first page, so it is not the question that is wrong: another instance
        // answers, of another release, or one that is not what it should be.
        let was_understood = !claimed.position.is_empty();
        let until = match error {
            UserlistError::Unavailable(_) | UserlistError::Changed => Some(UnixMillis::now() + PAUSE),
            UserlistError::Unknown | UserlistError::Refused(_) => was_understood.then(|| UnixMillis::now() + PAUSE),
        };
        tracing::warn!(broadcast = claimed.id, %error, is_given_up = until.is_none(), "broadcast stopped");
        let _next_time = self.outbox.note_failure(claimed, error.to_string(), until).await;
    }

    /// The page comes again when the pause is over, or the claim has expired.
    async fn pause(&self, claimed: &Claimed, error: &str) {
        tracing::warn!(broadcast = claimed.id, error, "a page of the broadcast could not be stored; retrying");
        let _next_time = self.outbox.note_failure(claimed, error.to_owned(), Some(UnixMillis::now() + PAUSE)).await;
        sleep(PAUSE).await;
    }
}
