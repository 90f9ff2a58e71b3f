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

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Moment,
    letter::LetterError,
    outbox::{
        Outbox, OutboxError,
        broadcast::{Claimed, Step},
        entry::{Kind, NewMessage},
    },
    recipient,
    submission::{House, Submission},
    templates::{FillError, Template},
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
    pub house: Arc<House>,
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
            let _next_time = self.outbox.stumble(&claimed, "it cannot be read".to_owned(), None).await;
            return;
        };
        loop {
            let page = match self.userlist.page(&selection(&broadcast.request), &claimed.position, PAGE).await {
                Ok(page) => page,
                Err(error) => return self.stumble(&claimed, &error).await,
            };
            let (house, id) = (Arc::clone(&self.house), claimed.id.clone());
            let composing = {
                let broadcast = Arc::clone(&broadcast);
                spawn_blocking(move || step(&house, &id, &broadcast, page))
            };
            let step = match composing.await.map_err(io::Error::other).flatten() {
                Ok(step) => step,
                // Nobody is passed over for that.
                Err(error) => return self.pause(&claimed, &error.to_string()).await,
            };
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

    async fn stumble(&self, claimed: &Claimed, error: &UserlistError) {
        let until = match error {
            UserlistError::Unavailable(_) | UserlistError::Changed => Some(Moment::now() + PAUSE),
            UserlistError::Unknown | UserlistError::Refused(_) => None,
        };
        tracing::warn!(broadcast = claimed.id, %error, is_given_up = until.is_none(), "the broadcast stops");
        let _next_time = self.outbox.stumble(claimed, error.to_string(), until).await;
    }

    /// The page comes again when the pause is over, or the claim has expired.
    async fn pause(&self, claimed: &Claimed, error: &str) {
        tracing::warn!(broadcast = claimed.id, error, "a page of the broadcast could not be taken in; trying again");
        let _next_time = self.outbox.stumble(claimed, error.to_owned(), Some(Moment::now() + PAUSE)).await;
        sleep(PAUSE).await;
    }
}

/// Messages to the users of one page.
fn step(house: &House, id: &str, broadcast: &Broadcast, page: Page) -> io::Result<Step> {
    let mut step = Step { total: total(&page), position: page.next(), ..Step::default() };
    for user in page.users {
        match message(house, id, broadcast, &user)? {
            Some(message) => step.messages.push(message),
            None => step.skipped += 1,
        }
    }
    Ok(step)
}

/// The message to one user; none to those who want none, or whom the template does not fit.
fn message(house: &House, id: &str, broadcast: &Broadcast, user: &User) -> io::Result<Option<(NewMessage, String)>> {
    if user.status != "active" {
        return Ok(None);
    }
    let token = Uuid::new_v4().simple().to_string();
    let Ok(address) = recipient::check(&user.email) else { return Ok(None) };
    let submission = match submission(house, broadcast, user, &token) {
        Ok(submission) => submission,
        Err(FillError::Field(_)) => return Ok(None),
        Err(error @ FillError::Unavailable { .. }) => return Err(io::Error::other(error)),
    };
    let recipients = vec![(Kind::To, Mailbox::new(None, address))];
    match submission.compose(recipients, house, None, Moment::now()) {
        Ok(mut message) => {
            message.broadcast = Some(id.to_owned());
            Ok(Some((message, token)))
        }
        Err(LetterError::Field(_)) => Ok(None),
        Err(LetterError::Spool(error)) => Err(io::Error::other(format!("the folder for large messages: {error}"))),
        Err(error @ LetterError::Unsigned) => Err(io::Error::other(error)),
    }
}

fn submission(house: &House, broadcast: &Broadcast, user: &User, token: &str) -> Result<Submission, FillError> {
    let base = house.options.public.as_str().trim_end_matches('/');
    let link = format!("{base}/v1/unsubscribe/{token}");
    let data = data(&broadcast.request, user, &link);
    // This runs where it may wait.
    let filled = Handle::current().block_on(house.filler.fill(&broadcast.template, &data))?;
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
