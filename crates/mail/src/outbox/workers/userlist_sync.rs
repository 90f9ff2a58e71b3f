//! Sends status changes (unsubscribed, bounced) to userlist, through the gateway.
//!
//! They are stored in the outbox ([`userlist_updates`](crate::outbox::store::suppression::userlist_updates)) until
//! userlist has taken them. Each user with the address gets the status, unless the user has a stronger one already; a
//! user that is changed concurrently is read again. Sending twice has the same effect as sending once, so a killed
//! instance costs one more request.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    outbox::{Outbox, store::suppression::userlist_updates::UserlistUpdate},
    userlist::{Selection, User, Userlist, UserlistError},
};

/// How often the outbox is polled for an update.
const POLL: Duration = Duration::from_secs(1);
/// How long to wait when userlist cannot be reached: at first, doubling, and at most.
const WAIT_MIN: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long to wait when userlist refuses: only an operator can change that.
const REFUSED_WAIT: Duration = Duration::from_secs(600);
/// Users of one address, a page at a time.
const PAGE: u32 = 100;

/// See the module.
#[derive(Debug)]
pub struct UserlistSync {
    /// Where updates are stored.
    pub outbox: Outbox,
    /// Where they are sent.
    pub userlist: Userlist,
}

impl UserlistSync {
    /// Works until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let working = async {
            loop {
                match self.outbox.next_userlist_update().await {
                    Ok(Some(update)) => self.work(&update).await,
                    // The dispatcher reports errors of the outbox.
                    Ok(None) | Err(_) => sleep(POLL).await,
                }
            }
        };
        shutdown.run_until_cancelled(working).await;
    }

    async fn work(&self, update: &UserlistUpdate) {
        let Err(error) = self.send(update).await else {
            // If this fails, the update is sent once more.
            let _again = self.outbox.confirm(update).await;
            return;
        };
        let wait = match &error {
            UserlistError::Unavailable(_) | UserlistError::Changed => {
                WAIT_MIN.saturating_mul(1 << update.attempts.min(10)).min(WAIT_MAX)
            }
            UserlistError::Refused(_) | UserlistError::Unknown => REFUSED_WAIT,
        };
        if update.attempts == 0 {
            tracing::warn!(%error, "could not send a status change to userlist; retrying");
        }
        match self.outbox.postpone(update, wait).await {
            Ok(false) => tracing::warn!(%error, "dropped a status change that userlist did not take for 30 days"),
            // The next one would fail the same way.
            Ok(true) | Err(_) => sleep(POLL).await,
        }
    }

    /// Sets the status of all users with the address.
    async fn send(&self, update: &UserlistUpdate) -> Result<(), UserlistError> {
        let selection = Selection::from([("email".to_owned(), update.address.clone())]);
        let mut position = String::new();
        loop {
            let page = self.userlist.page(&selection, &position, PAGE).await?;
            for user in &page.users {
                self.update_user(user, update).await?;
            }
            match page.next() {
                Some(next) => position = next,
                None => return Ok(()),
            }
        }
    }

    async fn update_user(&self, user: &User, update: &UserlistUpdate) -> Result<(), UserlistError> {
        if !update.status.replaces(&user.status) {
            return Ok(());
        }
        match self.userlist.set_status(user, update.status.as_str()).await {
            // The user was deleted.
            Err(UserlistError::Unknown) => Ok(()),
            result => result,
        }
    }
}
