//! Broadcasts: one message to each user whom a selection finds, page by page through the gateway.
//!
//! ```text
//! POST /v1/broadcasts {"template":"news","filter":{"tag":"beta"},"data":{"version":"2.0"}}
//! ```
//!
//! The template is filled with `data`, and for each user with `user.name`, `user.email`, `user.attributes` and
//! `unsubscribe_url`. Only active users are asked for; whoever is on the suppression list, or whose attributes do not fill
//! the template, is skipped and counted. Each message carries List-Unsubscribe and List-Unsubscribe-Post (RFC 8058), so
//! that mail programs show a button. While userlist cannot be asked the broadcast waits and says why.

use std::{collections::BTreeMap, time::Duration};

use discovery::FieldError;
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Moment,
    outbox::{
        Outbox, OutboxError,
        broadcast::{Claimed, Step},
        entry::{Kind, NewMessage},
    },
    recipient,
    submission::{House, Submission},
    templates::Template,
    userlist::{Page, Selection, User, Userlist, UserlistError},
};

/// Users of one page, and messages of one transaction.
const PAGE: u32 = 100;
/// How often somebody looks for a broadcast to work on.
const POLL: Duration = Duration::from_secs(1);
/// How long userlist is left alone after it could not be asked.
const PAUSE: Duration = Duration::from_secs(2);

/// The body of `POST /v1/broadcasts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BroadcastRequest {
    /// The template's name.
    pub template: String,
    /// Parameters of userlist's `GET /v1/users`, as `{"tag":"beta"}`. `status` is always `active`.
    #[serde(default)]
    pub filter: Selection,
    /// Values that are the same for everybody.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// One of the allowed senders.
    #[serde(default)]
    pub from: Option<String>,
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
    pub house: House,
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
        let Ok(broadcast) = serde_json::from_str::<Broadcast>(&claimed.body) else {
            let _next_time = self.outbox.stumble(&claimed, "it cannot be read".to_owned(), None).await;
            return;
        };
        loop {
            let page = match self.userlist.page(&selection(&broadcast.request), &claimed.position, PAGE).await {
                Ok(page) => page,
                Err(error) => return self.stumble(&claimed, &error).await,
            };
            let step = self.step(&claimed.id, &broadcast, page);
            let position = step.position.clone();
            match self.outbox.advance(&claimed, step).await {
                Ok(()) => {}
                Err(OutboxError::Conflict { .. }) => return,
                // The page comes again when the claim has expired.
                Err(_) => return sleep(PAUSE).await,
            }
            let Some(position) = position else {
                tracing::info!(broadcast = claimed.id, "all messages of the broadcast are in the outbox");
                return;
            };
            claimed.position = position;
        }
    }

    async fn stumble(&self, claimed: &Claimed, error: &UserlistError) {
        let until = match error {
            UserlistError::Unavailable(_) | UserlistError::Changed => Some(Moment::now() + PAUSE),
            UserlistError::Unknown | UserlistError::Refused(_) => None,
        };
        tracing::warn!(broadcast = claimed.id, %error, is_given_up = until.is_none(), "the broadcast stops");
        let _next_time = self.outbox.stumble(claimed, error.to_string(), until).await;
    }

    fn step(&self, id: &str, broadcast: &Broadcast, page: Page) -> Step {
        let mut step = Step { total: total(&page), position: page.next(), ..Step::default() };
        for user in page.users {
            match self.message(id, broadcast, &user) {
                Some(message) => step.messages.push(message),
                None => step.skipped += 1,
            }
        }
        step
    }

    /// The message to one user; none to those who want none, or whom the template does not fit.
    fn message(&self, id: &str, broadcast: &Broadcast, user: &User) -> Option<(NewMessage, String)> {
        if user.status != "active" {
            return None;
        }
        let address = recipient::check(&user.email).ok()?;
        let token = Uuid::new_v4().simple().to_string();
        let submission = self.submission(broadcast, user, &token).ok()?;
        let recipients = vec![(Kind::To, Mailbox::new(None, address))];
        let mut message = submission.compose(recipients, &self.house, None, Moment::now()).ok()?;
        message.broadcast = Some(id.to_owned());
        Some((message, token))
    }

    fn submission(&self, broadcast: &Broadcast, user: &User, token: &str) -> Result<Submission, FieldError> {
        let base = self.house.options.public.as_str().trim_end_matches('/');
        let link = format!("{base}/v1/unsubscribe/{token}");
        let data = data(&broadcast.request, user, &link);
        let filled = broadcast.template.fill(&data)?;
        Ok(Submission {
            to: Value::Null,
            cc: Value::Null,
            bcc: Value::Null,
            reply_to: Value::Null,
            from: broadcast.request.from.clone(),
            subject: Some(filled.subject),
            text: filled.text,
            html: filled.html,
            headers: BTreeMap::from([
                ("List-Unsubscribe".to_owned(), format!("<{link}>")),
                ("List-Unsubscribe-Post".to_owned(), "List-Unsubscribe=One-Click".to_owned()),
            ]),
            attachments: Vec::new(),
            send_at: None,
            template: None,
            data: Value::Null,
        })
    }
}

/// What the template is filled with for one user.
fn data(request: &BroadcastRequest, user: &User, link: &str) -> Value {
    let mut data = request.data.clone();
    data.insert("user".to_owned(), json!({ "name": user.name, "email": user.email, "attributes": user.attributes }));
    data.insert("unsubscribe_url".to_owned(), link.into());
    Value::Object(data)
}

fn selection(request: &BroadcastRequest) -> Selection {
    let mut selection = request.filter.clone();
    selection.insert("status".to_owned(), "active".to_owned());
    selection
}

fn total(page: &Page) -> i64 {
    page.total.and_then(|total| i64::try_from(total).ok()).unwrap_or(0)
}
