//! A broadcast that is not sent: whom it would reach, and what it looks like at one's own address.
//!
//! Both write the same messages as the broadcast itself, so that what they show is what happens.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use lettre::message::Mailbox;
use serde::Serialize;
use tokio::{task::spawn_blocking, time::Instant};
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Broadcast, Broadcaster, PAGE,
    page::{self, Audience, AudienceError, Unwritten},
};
use crate::outbox::store::{
    broadcasts::Step,
    entry::{IdempotencyKey, Kind, NewMessage},
    openapi::SkippedBy,
    skips::Skip,
};

/// How long counting may take: an answer has to come before the gateway gives up.
const COUNTING_MAX: Duration = Duration::from_secs(15);
/// How many of those who are left out are named.
const NAMED_MAX: usize = 100;

/// What a broadcast would do.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = BroadcastCount)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Users that userlist said there are.
    #[schema(minimum = 0)]
    pub total: i64,
    /// Messages that would be sent.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// Users who would get none.
    #[schema(minimum = 0)]
    pub skipped: i64,
    /// How many of them for each reason of Skip.
    #[schema(value_type = SkippedBy)]
    pub skipped_by: BTreeMap<String, i64>,
    /// The first 100 of them.
    #[schema(max_items = 100)]
    pub skips: Vec<Skip>,
    /// Whether all users were looked at. If not, there was no time for more than `queued` and `skipped` say.
    pub is_complete: bool,
}

/// Why a broadcast cannot be rehearsed.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// Userlist or the suppression list cannot be asked.
    #[error(transparent)]
    Audience(#[from] AudienceError),
    /// The selection finds no user, so there is none to write the test for.
    #[error("the selection finds no active user")]
    NoUser,
    /// The first user's message cannot be written.
    #[error("{0}")]
    Unwritable(String),
    /// It cannot be written for now: the folder for large messages, or the process that fills templates, cannot be
    /// used.
    #[error("the message cannot be written for now")]
    Spool(#[source] io::Error),
}

impl Broadcaster {
    /// Counts whom `broadcast` would reach. Changes nothing.
    ///
    /// # Errors
    /// See [`RehearsalError`].
    pub async fn count(&self, broadcast: Broadcast, public: &Url) -> Result<Count, RehearsalError> {
        let broadcast = Arc::new(broadcast);
        let started = Instant::now();
        let mut count = Count::default();
        let mut position = String::new();
        while started.elapsed() < COUNTING_MAX {
            let audience = Audience::ask(&self.userlist, &self.outbox, &broadcast.request, &position, PAGE).await?;
            let compose_config = Arc::clone(&self.compose_config);
            let public = public.clone();
            let broadcast = Arc::clone(&broadcast);
            let composing = spawn_blocking(move || audience.compose(&compose_config, &public, "", &broadcast));
            let step = composing.await.map_err(io::Error::other).flatten().map_err(RehearsalError::Spool)?;
            let next = step.position.clone();
            count.add(step);
            match next {
                Some(next) => position = next,
                None => {
                    count.is_complete = true;
                    break;
                }
            }
        }
        Ok(count)
    }

    /// The message that the first user of the selection would get, addressed to `recipients`. Its link to leave leads
    /// nowhere.
    ///
    /// # Errors
    /// See [`RehearsalError`].
    pub async fn sample(
        &self,
        broadcast: Broadcast,
        public: &Url,
        recipients: Vec<Mailbox>,
        key: Option<IdempotencyKey>,
    ) -> Result<NewMessage, RehearsalError> {
        let audience = Audience::ask(&self.userlist, &self.outbox, &broadcast.request, "", 1).await?;
        let user = audience.page.users.into_iter().next().ok_or(RehearsalError::NoUser)?;
        let recipients = recipients.into_iter().map(|mailbox| (Kind::To, mailbox)).collect();
        let compose_config = Arc::clone(&self.compose_config);
        let public = public.clone();
        let writing = spawn_blocking(move || {
            let token = Uuid::new_v4().simple().to_string();
            page::write(&compose_config, &public, &broadcast, &user, &token, recipients)
        });
        let written = writing.await.map_err(|error| RehearsalError::Spool(io::Error::other(error)))?;
        let mut message = written.map_err(|unwritten| match unwritten {
            Unwritten::Skipped(_, detail) => RehearsalError::Unwritable(detail),
            Unwritten::Failed(error) => RehearsalError::Spool(error),
        })?;
        message.idempotency = key;
        Ok(message)
    }
}

impl Count {
    fn add(&mut self, step: Step) {
        let number = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        self.total = step.total;
        self.queued += number(step.messages.len());
        self.skipped += number(step.skips.len());
        for skip in step.skips {
            *self.skipped_by.entry(skip.reason.clone()).or_default() += 1;
            if self.skips.len() < NAMED_MAX {
                self.skips.push(skip);
            }
        }
    }
}
