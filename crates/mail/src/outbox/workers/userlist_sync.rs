//! Tells userlist, through the gateway, who left and whose address is gone.
//!
//! What is to be told is on our disk ([`crate::outbox::store::suppression::userlist_updates`]) and stays there until userlist has taken it. Whoever has
//! the address gets the status, unless they have a stronger one already; a user who was changed at that very moment is read
//! again. Telling twice is the same as telling once, so a killed instance costs nothing but another question.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    outbox::{Outbox, store::suppression::userlist_updates::UserlistUpdate},
    userlist::{Selection, User, Userlist, UserlistError},
};

/// How often somebody looks for something to tell.
const POLL: Duration = Duration::from_secs(1);
/// How long userlist is left alone when it cannot be asked: at first, doubling, and at most.
const WAIT_MIN: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The same when it refuses: only an operator can change that.
const REFUSED_WAIT: Duration = Duration::from_secs(600);
/// Users of one address, a page at a time.
const PAGE: u32 = 100;

/// See the module.
#[derive(Debug)]
pub struct UserlistSync {
    /// Where it is kept.
    pub outbox: Outbox,
    /// Who is told.
    pub userlist: Userlist,
}

impl UserlistSync {
    /// Works until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let working = async {
            loop {
                match self.outbox.next_userlist_update().await {
                    Ok(Some(farewell)) => self.work(&farewell).await,
                    // What is wrong with the outbox, the dispatcher says.
                    Ok(None) | Err(_) => sleep(POLL).await,
                }
            }
        };
        shutdown.run_until_cancelled(working).await;
    }

    async fn work(&self, farewell: &UserlistUpdate) {
        let Err(error) = self.tell(farewell).await else {
            // If this fails, it is told once more.
            let _again = self.outbox.told(farewell).await;
            return;
        };
        let wait = match &error {
            UserlistError::Unavailable(_) | UserlistError::Changed => {
                WAIT_MIN.saturating_mul(1 << farewell.attempts.min(10)).min(WAIT_MAX)
            }
            UserlistError::Refused(_) | UserlistError::Unknown => REFUSED_WAIT,
        };
        if farewell.attempts == 0 {
            tracing::warn!(%error, "userlist could not be told that an address gets no mail; it is told again");
        }
        match self.outbox.not_told(farewell, wait).await {
            Ok(false) => tracing::warn!(%error, "userlist was not told for a month; given up"),
            // The next one would meet the same.
            Ok(true) | Err(_) => sleep(POLL).await,
        }
    }

    /// All who have the address.
    async fn tell(&self, farewell: &UserlistUpdate) -> Result<(), UserlistError> {
        let selection = Selection::from([("email".to_owned(), farewell.address.clone())]);
        let mut position = String::new();
        loop {
            let page = self.userlist.page(&selection, &position, PAGE).await?;
            for user in &page.users {
                self.tell_about(user, farewell).await?;
            }
            match page.next() {
                Some(next) => position = next,
                None => return Ok(()),
            }
        }
    }

    async fn tell_about(&self, user: &User, farewell: &UserlistUpdate) -> Result<(), UserlistError> {
        if !farewell.status.replaces(&user.status) {
            return Ok(());
        }
        match self.userlist.set_status(user, farewell.status.as_str()).await {
            // They are gone altogether.
            Err(UserlistError::Unknown) => Ok(()),
            result => result,
        }
    }
}
