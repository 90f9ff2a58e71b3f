//! One page of users, and what becomes of each: a message, or a reason why there is none.

use std::{collections::BTreeMap, io};

use discovery::FieldError;
use lettre::message::Mailbox;
use serde_json::{Value, json};
use service_kit::time::UnixMillis;
use tokio::runtime::Handle;
use url::Url;
use uuid::Uuid;

use super::{Broadcast, BroadcastRequest};
use crate::{
    message::{composer::ComposeError, recipient},
    outbox::{
        Outbox, OutboxError,
        store::{
            broadcasts::{Outgoing, Step},
            entry::{Kind, NewMessage},
            skips::Skip,
            suppression::{self, Verdicts},
        },
    },
    submission::{ComposeConfig, Submission},
    templates::FillError,
    userlist::{Page, Selection, User, Userlist, UserlistError},
};

/// The reasons for which there is no message, beside those of the suppression list.
const INACTIVE: &str = "inactive";
const INVALID_ADDRESS: &str = "invalid_address";
const INVALID_TEMPLATE: &str = "invalid_template";

/// Some users of the selection, and what the suppression list says about them.
#[derive(Debug)]
pub(super) struct Audience {
    pub(super) page: Page,
    asked: UnixMillis,
    verdicts: Verdicts,
}

/// Why there is no audience.
#[derive(Debug, thiserror::Error)]
pub enum AudienceError {
    /// Userlist cannot be asked, or refuses the selection.
    #[error(transparent)]
    Userlist(#[from] UserlistError),
    /// The suppression list cannot be read.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl Audience {
    /// At most `limit` users from `position` on.
    pub(super) async fn ask(
        userlist: &Userlist,
        outbox: &Outbox,
        request: &BroadcastRequest,
        position: &str,
        limit: u32,
    ) -> Result<Self, AudienceError> {
        let asked = UnixMillis::now();
        let page = userlist.page(&selection(request), position, limit).await?;
        let addresses = page.users.iter().filter_map(|user| recipient::check(&user.email).ok());
        let addresses = addresses.map(|address| address.to_string()).collect();
        let verdicts = outbox.broadcast_verdicts(addresses, asked).await?;
        Ok(Self { page, asked, verdicts })
    }

    /// Writes the messages.
    ///
    /// # Errors
    /// The folder for large messages cannot be used.
    pub(super) fn compose(
        self,
        compose_config: &ComposeConfig,
        public: &Url,
        id: &str,
        broadcast: &Broadcast,
    ) -> io::Result<Step> {
        let mut step = Step { total: total(&self.page), position: self.page.next(), ..Step::default() };
        for user in self.page.users {
            let token = Uuid::new_v4().simple().to_string();
            match message(compose_config, public, broadcast, &user, &token, &self.verdicts) {
                Ok(mut message) => {
                    message.broadcast = Some(id.to_owned());
                    step.messages.push(Outgoing { user: user.name, message, token });
                }
                Err(Unwritten::Skipped(reason, detail)) => {
                    step.skips.push(Skip { user: user.name, address: user.email, reason, detail });
                }
                Err(Unwritten::Failed(error)) => return Err(error),
            }
        }
        (step.asked, step.lifted) = (Some(self.asked), self.verdicts.lifted);
        Ok(step)
    }
}

/// Why there is no message to a user.
pub(super) enum Unwritten {
    /// They get none: for this reason, with a detail.
    Skipped(String, String),
    /// Not because of them.
    Failed(io::Error),
}

impl Unwritten {
    fn skipped(reason: &str, detail: impl Into<String>) -> Self {
        Self::Skipped(reason.to_owned(), detail.into())
    }
}

/// The message to one user.
pub(super) fn message(
    compose_config: &ComposeConfig,
    public: &Url,
    broadcast: &Broadcast,
    user: &User,
    token: &str,
    verdicts: &Verdicts,
) -> Result<NewMessage, Unwritten> {
    if user.status != "active" {
        return Err(Unwritten::skipped(INACTIVE, user.status.as_str()));
    }
    let address = recipient::check(&user.email).map_err(|reason| Unwritten::skipped(INVALID_ADDRESS, reason))?;
    if let Some(reason) = verdicts.stopped.get(&suppression::key(address.as_ref())) {
        return Err(Unwritten::skipped(reason, ""));
    }
    write(compose_config, public, broadcast, user, token, vec![(Kind::To, Mailbox::new(None, address))])
}

/// The message for one user, addressed to `recipients`.
pub(super) fn write(
    compose_config: &ComposeConfig,
    public: &Url,
    broadcast: &Broadcast,
    user: &User,
    token: &str,
    recipients: Vec<(Kind, Mailbox)>,
) -> Result<NewMessage, Unwritten> {
    let unfit = |error: FieldError| Unwritten::skipped(INVALID_TEMPLATE, error.to_string());
    let submission = submission(compose_config, public, broadcast, user, token).map_err(|error| match error {
        FillError::Field(error) => unfit(error),
        error @ FillError::Unavailable { .. } => Unwritten::Failed(io::Error::other(error)),
    })?;
    submission.compose(recipients, compose_config, None, UnixMillis::now()).map_err(|error| match error {
        ComposeError::Field(error) => unfit(error),
        ComposeError::Spool(error) => {
            Unwritten::Failed(io::Error::other(format!("the folder for large messages: {error}")))
        }
        error @ ComposeError::Unsigned => Unwritten::Failed(io::Error::other(error)),
    })
}

/// Runs where it may wait.
fn submission(
    compose_config: &ComposeConfig,
    public: &Url,
    broadcast: &Broadcast,
    user: &User,
    token: &str,
) -> Result<Submission, FillError> {
    let base = public.as_str().trim_end_matches('/');
    let link = format!("{base}/v1/unsubscribe/{token}");
    let request = &broadcast.request;
    let data = data(request, user, &link);
    let filled = Handle::current().block_on(compose_config.filler.fill(&broadcast.template, &data))?;
    Ok(Submission {
        to: Value::Null,
        cc: Value::Null,
        bcc: Value::Null,
        reply_to: Value::Null,
        from: request.from.clone(),
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
        tag: request.tag.clone(),
        metadata: request.metadata.clone(),
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
