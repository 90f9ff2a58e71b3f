//! `Watch`: what happens to one service, as over HTTP in `http::watch`.
//!
//! A client that reads slowly misses nothing and is told less: what happens while it reads becomes one set of changes,
//! which is made when it has taken what was before. One that does not read at all loses its stream
//! ([`service_kit::serve`]).

use std::time::Duration;

use discovery::{Revision, ServiceName};
use futures::{FutureExt as _, StreamExt as _, stream::unfold};
use muster_proto::v1::{WatchReply, WatchRequest};
use service_kit::{Problem, tokens::Action};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Replies, Rpc,
    entries::{Parts, by_itself, registered, removed, service},
    list::authorize,
    statuses::status,
};
use crate::{
    admission::access::Right,
    catalog::Catalog,
    error,
    mirror::{Delta, Subscription, Topic},
};

/// How long the stream stays silent at most.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What is being sent, made while it is.
type Unsent = Box<dyn Iterator<Item = WatchReply> + Send>;

/// One client that follows one service.
struct Follower {
    catalog: Catalog,
    service: ServiceName,
    subscription: Subscription,
    closing: CancellationToken,
    /// The stream ends with it.
    right: Option<Right>,
    /// The index up to which everything was sent, or is in `unsent`; `None`: nothing was.
    sent: Option<Revision>,
    unsent: Unsent,
}

pub(super) fn follow(rpc: &Rpc, request: &WatchRequest) -> Result<Replies<WatchReply>, Problem> {
    let service = service(&request.service)?;
    authorize(Some(&service))?;
    if request.index < 0 {
        return Err(error::field(discovery::FieldError::new(
            "index",
            "is none that a reply gave; send 0 for everything",
        )));
    }
    rpc.catalog.age()?;
    let follower = Follower {
        catalog: rpc.catalog.clone(),
        subscription: rpc.catalog.subscribe(Topic::Service(service.clone())),
        right: Right::current().map(|right| right.only(service.as_str(), Action::Read)),
        service,
        closing: rpc.closing.clone(),
        sent: (request.index > 0).then_some(Revision(request.index)),
        unsent: Box::new(std::iter::empty()),
    };
    let replies = unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await? {
            Ok(reply) => Some((Ok(reply), Some(follower))),
            Err(problem) => Some((Err(status(&problem)), None)),
        }
    });
    Ok(replies.boxed())
}

// === impl Follower ===

impl Follower {
    /// What to send next; `None` when the registry ends. Asked for only when the client has taken most of what was
    /// before.
    ///
    /// # Errors
    ///
    /// 401, 403: the client's token has been withdrawn, or has lost the scope.
    async fn next(&mut self) -> Option<Result<WatchReply, Problem>> {
        loop {
            if let Some(problem) = Right::lost(&mut self.right).now_or_never() {
                return Some(Err(problem));
            }
            if let Some(reply) = self.unsent.next() {
                return Some(Ok(by_itself(WatchReply { age_ms: self.age_ms(), ..reply }).await));
            }
            if self.look() {
                continue;
            }
            tokio::select! {
                problem = Right::lost(&mut self.right) => return Some(Err(problem)),
                woken = timeout(HEARTBEAT, self.subscription.changed()) => if woken.is_err() {
                    return Some(Ok(WatchReply { age_ms: self.age_ms(), ..WatchReply::default() }));
                },
                () = self.closing.cancelled() => return None,
            }
        }
    }

    /// Whether anything has happened since it last looked, which is to be sent then.
    fn look(&mut self) -> bool {
        let (index, view) = self.catalog.read(&self.service);
        if self.sent == Some(index) {
            return false;
        }
        let seen = self.sent.replace(index);
        let delta = seen.and_then(|seen| view.as_ref()?.since(seen));
        let (reset, Delta { changed, removed: gone }) = match delta {
            Some(delta) => (false, delta),
            None => (
                true,
                Delta { changed: view.map(|view| view.instances.clone()).unwrap_or_default(), ..Delta::default() },
            ),
        };
        let gone = Parts::of(gone.into_iter().map(|tombstone| removed(&tombstone)))
            .map(|removed| WatchReply { removed, ..WatchReply::default() });
        let changed = Parts::of(changed.into_iter().map(|entry| registered(&entry)))
            .map(|changed| WatchReply { changed, ..WatchReply::default() });
        self.unsent = Box::new(marked(gone.chain(changed), reset, index));
        true
    }

    fn age_ms(&self) -> u64 {
        let age = self.catalog.sync().age().unwrap_or_default();
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The first one says whether everything before is to be forgotten, the last one where to go on; at least one.
fn marked(
    replies: impl Iterator<Item = WatchReply> + Send + 'static,
    reset: bool,
    index: Revision,
) -> impl Iterator<Item = WatchReply> + Send {
    let mut replies = replies.peekable();
    let mut is_first = true;
    std::iter::from_fn(move || {
        let reply = match replies.next() {
            None if is_first => WatchReply::default(),
            next => next?,
        };
        let is_last = replies.peek().is_none();
        let reset = std::mem::replace(&mut is_first, false) && reset;
        Some(WatchReply { reset, index: if is_last { index.0 } else { 0 }, ..reply })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_many_parts_has_its_reset_first_and_its_index_last() {
        let marks = |count: usize, reset: bool| -> Vec<(bool, i64)> {
            let replies = std::iter::repeat_n(WatchReply::default(), count);
            marked(replies, reset, Revision(7)).map(|reply| (reply.reset, reply.index)).collect()
        };
        assert_eq!(marks(3, true), [(true, 0), (false, 0), (false, 7)]);
        assert_eq!(marks(1, false), [(false, 7)]);
        assert_eq!(marks(0, true), [(true, 7)], "an empty service");
    }
}
