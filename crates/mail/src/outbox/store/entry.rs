//! What is in the outbox: a message, and for each of its recipients a delivery with a fate of its own.
//!
//! | state | meaning |
//! |---|---|
//! | `queued` | waits for its moment, for another attempt, or is being sent right now (`sending`) |
//! | `delivered` | the SMTP server has taken it, and the responsibility |
//! | `failed` | refused for good, or given up after `--retry-for` |
//! | `cancelled` | by a request, before it was sent |
//! | `suppressed` | the address was on the suppression list when it was accepted or about to be sent |

use std::time::Duration;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use service_kit::time::UnixMillis;
use tokio::sync::OnceCell;
use utoipa::ToSchema;
use uuid::Uuid;

use super::labels::Labels;
use crate::message::{MessageId, content::Content};

/// How long a claim lasts unless it is renewed: what a killed instance's messages wait.
pub const CLAIM: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not settled yet.
    Queued,
    /// Being sent; shown only, never stored.
    Sending,
    /// Taken.
    Delivered,
    /// Given up.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Never to be sent.
    Suppressed,
}

impl State {
    /// The word in the database and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Sending, Self::Delivered, Self::Failed, Self::Cancelled, Self::Suppressed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// Which list of the request a recipient was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `to`.
    To,
    /// `cc`.
    Cc,
    /// `bcc`: in no header.
    Bcc,
}

impl Kind {
    /// The field's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::Cc => "cc",
            Self::Bcc => "bcc",
        }
    }
}

/// A message on its way into the outbox, checked and written.
pub struct NewMessage {
    /// Its Message-ID, for ever; the unique part is the message's id here.
    pub message_id: MessageId,
    /// For `MAIL FROM`.
    pub sender: String,
    /// For lists.
    pub subject: String,
    /// Headers and text as they go over the wire.
    pub content: Content,
    /// Now.
    pub created: UnixMillis,
    /// When it is to be sent.
    pub due: UnixMillis,
    /// When to stop trying.
    pub expires: UnixMillis,
    /// Everybody, each once.
    pub recipients: Vec<(Kind, String)>,
    /// The broadcast that it belongs to. Such messages let others go first.
    pub broadcast: Option<String>,
    /// What it is found by.
    pub labels: Labels,
    /// How the same request is recognised when it comes again.
    pub idempotency: Option<IdempotencyKey>,
    /// The claim of the instance that takes it in and sends it at once; see [`immediate`](super::immediate).
    pub claim: Option<OwnClaim>,
}

/// A claim of a request whose client waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClaim {
    /// Whose it is.
    pub claim: String,
    /// Until when nothing else may send the message. It is not renewed: a client does not wait for ever.
    pub until: UnixMillis,
}

impl OwnClaim {
    /// How long the client, or a gateway, may take to repeat the request when the instance was killed.
    const ASKED_AGAIN_WITHIN: Duration = Duration::from_secs(60);

    /// A new one.
    #[must_use]
    pub fn new(until: UnixMillis) -> Self {
        Self { claim: Uuid::new_v4().simple().to_string(), until }
    }

    /// When a message that was left behind is given up.
    #[must_use]
    pub fn expires(&self) -> UnixMillis {
        self.until + Self::ASKED_AGAIN_WITHIN
    }
}

impl NewMessage {
    /// Its id: 32 hexadecimal digits that sort by time.
    #[must_use]
    pub fn id(&self) -> &str {
        self.message_id.unique()
    }
}

impl std::fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewMessage").field("id", &self.id()).field("len", &self.content.len()).finish_non_exhaustive()
    }
}

/// A client's name for a request (`Idempotency-Key`), and what the request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// What the client chose; after the caller's name, so that callers cannot meet.
    pub name: String,
    /// SHA-256 in hexadecimal, of the body of `POST /v1/messages`, and of path and body elsewhere: a key that comes at
    /// another path is another request.
    pub fingerprint: String,
}

impl IdempotencyKey {
    /// The key `name` of a request to `path`.
    #[must_use]
    pub fn at(path: &str, name: String, body: &[u8]) -> Self {
        let mut hash = Context::new(&SHA256);
        for part in [path.as_bytes(), b"\n", body] {
            hash.update(part);
        }
        Self { name, fingerprint: hex::encode(hash.finish()) }
    }
}

/// The answer to a message that was taken; kept for requests that come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The message's id.
    #[schema(min_length = 1)]
    pub id: String,
    /// Its Message-ID header.
    pub message_id: String,
    /// How many recipients it goes to.
    #[schema(format = Int64)]
    pub recipients: usize,
    /// How many of those on its lists are on the suppression list.
    #[schema(format = Int64)]
    pub suppressed: usize,
}

/// A due delivery that could be claimed.
pub(in crate::outbox) struct Candidate {
    pub(in crate::outbox) delivery: i64,
    pub(in crate::outbox) domain: String,
    pub(in crate::outbox) message: String,
    pub(in crate::outbox) recipient: String,
    pub(in crate::outbox) attempts: i64,
    pub(super) expires: UnixMillis,
    pub(super) due: UnixMillis,
}

/// The content of a message that was accepted. The deliveries of one claim share it.
#[derive(Debug)]
pub(in crate::outbox) enum Stored {
    /// It came with the message's row.
    Whole(Content),
    /// It lies in chunks, and is gathered once, when it is needed.
    Chunks { message: String, gathered: OnceCell<Content> },
}

impl Stored {
    pub(in crate::outbox) fn new(message: &str, content: Vec<u8>) -> Self {
        match content.is_empty() {
            true => Self::Chunks { message: message.to_owned(), gathered: OnceCell::new() },
            false => Self::Whole(content.into()),
        }
    }
}

/// A delivery that this instance has claimed. Those of one message to one domain go together, in one SMTP transaction.
pub struct Claimed {
    pub(in crate::outbox) delivery: i64,
    pub(in crate::outbox) recipient: String,
    pub(in crate::outbox) domain: String,
    pub(in crate::outbox) attempts: u32,
    pub(in crate::outbox) expires: UnixMillis,
    pub(in crate::outbox) message_id: String,
    pub(in crate::outbox) sender: String,
    pub(in crate::outbox) content: std::sync::Arc<Stored>,
}

impl std::fmt::Debug for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimed").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(in crate::outbox) struct AttemptRecord {
    pub(in crate::outbox) delivery: i64,
    pub(in crate::outbox) claim: String,
    pub(in crate::outbox) at: UnixMillis,
    pub(in crate::outbox) took_ms: i64,
    /// `sent`, or the code of the error.
    pub(in crate::outbox) outcome: &'static str,
    /// The server's words, or ours when it had none.
    pub(in crate::outbox) reply: String,
    /// The recipient, when the server says that there is no such address: it goes on the suppression list.
    pub(in crate::outbox) bounced: Option<String>,
    pub(in crate::outbox) next: Next,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Done.
    Delivered,
    /// Done, badly.
    Failed,
    /// Again, not before this moment.
    Retry(UnixMillis),
    /// The same after an unknown outcome: again, unless it has been unknown too often.
    Repeat(UnixMillis),
    /// Again as soon as the server can be reached: it keeps its place in the queue.
    Postponed,
}
