//! `Register`: a stream of heartbeats.
//!
//! Each is taken as over HTTP, one after the other, and answered; the next one is read when the answer is sent. A response
//! is not polled while a part of it is not sent: a heartbeat that was under way then would hold its turn, and not be late,
//! for as long as its client reads nothing.
//!
//! The first one that is refused ends the stream with its status: the sender looks what to do, and opens another one.
//! Between two heartbeats nothing is worked on, and the connection may be closed for another client's: the instance does
//! not notice, but for its next heartbeat.

use std::{sync::Arc, time::Duration};

use discovery::InstanceKey;
use futures::{StreamExt as _, stream::unfold};
use muster_proto::v1;
use service_kit::{Problem, request::RequestContext, serve::wait_for_client};
use tokio::{task::yield_now, time::timeout};
use tonic::{Request, Status, Streaming};

use super::{Replies, Rpc, calls::too_slow, statuses::status};
use crate::{admission::access::Requester, error, registrar::Heartbeat};

/// How long the first heartbeat may take.
const FIRST: Duration = Duration::from_secs(10);

/// A stream that is open.
struct Stream {
    rpc: Rpc,
    heartbeats: Streaming<v1::Heartbeat>,
    requester: Requester,
    /// How long to wait for the next heartbeat: the registration does not outlive that.
    patience: Duration,
    context: Option<RequestContext>,
}

pub(super) fn replies(
    rpc: Rpc,
    request: Request<Streaming<v1::Heartbeat>>,
) -> Result<Replies<v1::HeartbeatReply>, Problem> {
    // There always is one: nothing is registered for a sender of whom nothing is known.
    let requester = request.extensions().get::<Requester>().cloned().ok_or_else(Problem::internal)?;
    let stream = Stream {
        rpc,
        requester,
        heartbeats: request.into_inner(),
        patience: FIRST,
        context: service_kit::request::current(),
    };
    let replies = unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        // tonic asks for replies until there is none at the moment, and gives away only then what it has.
        yield_now().await;
        match stream.next().await? {
            Ok(reply) => Some((Ok(reply), Some(stream))),
            Err(status) => Some((Err(status), None)),
        }
    });
    Ok(replies.boxed())
}

// === impl Stream ===

impl Stream {
    /// The next reply; `None` when the sender has no more heartbeats, or this registry ends.
    async fn next(&mut self) -> Option<Result<v1::HeartbeatReply, Status>> {
        let heartbeat = tokio::select! {
            biased;
            () = self.rpc.closing.cancelled() => return None,
            next = timeout(self.patience, wait_for_client(self.heartbeats.message())) => next,
        };
        match heartbeat {
            Ok(Ok(Some(heartbeat))) => Some(self.in_context(heartbeat).await),
            Ok(Ok(None)) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(_) => Some(Err(status(&too_slow()))),
        }
    }

    async fn in_context(&mut self, heartbeat: v1::Heartbeat) -> Result<v1::HeartbeatReply, Status> {
        let context = self.context.clone();
        let taken = async { self.take(heartbeat).await.map_err(|problem| status(&problem)) };
        match context {
            Some(context) => context.during(taken).await,
            None => taken.await,
        }
    }

    async fn take(&mut self, heartbeat: v1::Heartbeat) -> Result<v1::HeartbeatReply, Problem> {
        let registrar = Arc::clone(&self.rpc.registrar);
        let taken = self.requester.ask(async move {
            let (service, id, heartbeat) = heartbeat.into_parts().map_err(error::field)?;
            let life = heartbeat.incarnation;
            let (instance, ttl) = heartbeat.into_parts().map_err(error::field)?;
            let key = InstanceKey::new(service, id);
            let reply = registrar.accept(Heartbeat { key, instance, ttl, life }).await?;
            Ok((reply, ttl))
        });
        let (reply, ttl) = taken.await?;
        self.patience = ttl.get();
        Ok(reply.into())
    }
}
