//! One attempt: one request to one instance, until the head of its response, or a failure that says how far it got.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use hyper::body::Incoming;
use service_kit::{chain, request::REQUEST_ID};

use crate::{
    downstream::{Downstream, Waiting},
    framing,
    gateway::Gateway,
    headers,
    outlier::Outcome,
    per_core::FailureKind,
    refusal::Refusal,
    request_body::{RequestBody, Source},
    response_body::{Relay, ResponseBody},
    retry::{self, Progress},
    routing_table::{Candidate, Service},
    upstream::{ConnectError, Upstream},
};

/// The head of a request as it leaves, for as many attempts as it takes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    method: Method,
    uri: Uri,
    /// `None` once they were given away for the only time.
    headers: Option<HeaderMap>,
    /// Whether it may be sent twice, so that the headers must be kept.
    pub(crate) is_repeatable: bool,
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) progress: Progress,
    /// It failed on a connection that had served before, which the instance may just have closed: that says nothing
    /// about the instance.
    pub(crate) is_stale: bool,
}

/// What went wrong. `Display` completes the sentence "10.0.0.5:7070 …".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("closed the connection before it answered")]
    Closed(#[source] hyper::Error),
    #[error("answered something that is not HTTP/1.1")]
    Unparsable(#[source] hyper::Error),
    #[error("answered what must not be passed on: {0}")]
    Malformed(&'static str),
    #[error("did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The client's doing; nothing about the instance.
    #[error("was sent a request that broke off")]
    Client(Refusal),
}

// === impl Outgoing ===

impl Outgoing {
    /// The request for an instance of `service` whose target is `target`, from what the client sent.
    ///
    /// # Errors
    ///
    /// The target is none.
    pub(crate) fn new(
        head: Parts,
        target: String,
        is_chunked: bool,
        request_id: &HeaderValue,
        service: &Service,
        downstream: &Downstream,
    ) -> Result<Self, Refusal> {
        let Parts { method, uri, mut headers, .. } = head;
        if let Some(authority) = uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            // Absolute-form: the target's authority goes before the Host field (RFC 9112, section 3.2.2).
            headers.insert(header::HOST, host);
        }
        let uri = Uri::from_maybe_shared(Bytes::from(target))
            .map_err(|_| Refusal::Malformed("the request target has characters that it must not have".into()))?;
        headers::to_instance(&mut headers, &downstream.client, &service.prefix);
        // What `Connection` named is gone: the instance must see the key that makes a request repeatable.
        let is_repeatable = retry::is_repeatable(&method, &headers);
        headers.insert(REQUEST_ID, request_id.clone());
        if is_chunked {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Ok(Self { method, uri, headers: Some(headers), is_repeatable })
    }

    /// The request for one attempt; `None` when it was given away before.
    fn request(&mut self, candidate: &Candidate, body: RequestBody) -> Option<Request<RequestBody>> {
        let mut headers = if self.is_repeatable { self.headers.clone()? } else { self.headers.take()? };
        if let header::Entry::Vacant(host) = headers.entry(header::HOST) {
            // HTTP/1.0 may come without; HTTP/1.1 must not leave without.
            host.insert(HeaderValue::try_from(candidate.address().to_string()).ok()?);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Some(request)
    }

    /// Whether another attempt could have them.
    pub(crate) fn has_headers(&self) -> bool {
        self.headers.is_some()
    }
}

// === one attempt ===

/// Sends `outgoing` to `candidate` and waits for the head of the response. `may_reuse`: whether on a kept connection.
pub(crate) async fn forward(
    gateway: &Rc<Gateway>,
    candidate: &Candidate,
    outgoing: &mut Outgoing,
    body: &Source,
    downstream: &Rc<Downstream>,
    may_reuse: bool,
) -> Result<Response<ResponseBody>, Failure> {
    let kept = poll_fn(|cx| {
        let must_be_sure = !outgoing.is_repeatable;
        let mut take = || gateway.pool.take(candidate.serial, must_be_sure, gateway.clock.now(), cx);
        Poll::Ready(if may_reuse { take() } else { None })
    })
    .await;
    let upstream = match kept {
        Some(upstream) => upstream,
        None => {
            Upstream::connect(candidate, &gateway.addresses, gateway.options.timeouts.connect_timeout).await.map_err(
                |error| Failure { kind: Kind::Connect(error), progress: Progress::NothingSent, is_stale: false },
            )?
        }
    };
    let (response, upstream) = send(gateway, candidate, upstream, outgoing, body, downstream).await?;
    let (mut head, incoming) = response.into_parts();
    if let Err(what) = framing::check_response(head.status, &head.headers) {
        return Err(Failure { kind: Kind::Malformed(what), progress: Progress::Sent, is_stale: false });
    }
    headers::to_client(&mut head.headers);
    let relay = Relay::new(incoming, upstream, candidate.serial, Rc::clone(gateway));
    let mut response = Response::new(ResponseBody::relayed(relay, downstream));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

async fn send(
    gateway: &Gateway,
    candidate: &Candidate,
    mut upstream: Upstream,
    outgoing: &mut Outgoing,
    body: &Source,
    downstream: &Downstream,
) -> Result<(Response<Incoming>, Upstream), Failure> {
    let limit = gateway.options.timeouts.response_timeout;
    let Some(request) = outgoing.request(candidate, body.read()) else {
        let gone = Refusal::Malformed("the request cannot be sent again".into());
        return Err(Failure { kind: Kind::Client(gone), progress: Progress::ClientFault, is_stale: false });
    };
    upstream.start();
    let mut response = pin!(upstream.sender.try_send_request(request));
    downstream.expect_response(true, limit);
    let result = poll_fn(|cx| {
        upstream.drive(cx);
        match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if downstream.is_over(Waiting::Response) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    downstream.expect_response(false, limit);
    match result {
        Some(Ok(response)) => Ok((response, upstream)),
        None => Err(Failure { kind: Kind::Timeout(limit), progress: Progress::TimedOut, is_stale: false }),
        Some(Err(mut error)) => {
            // Never serialised: hyper gives it back as it was.
            if let Some(request) = error.take_message() {
                outgoing.headers = Some(request.into_parts().0.headers);
            }
            Err(failure(error.into_error(), &upstream, body))
        }
    }
}

fn failure(error: hyper::Error, upstream: &Upstream, body: &Source) -> Failure {
    if let Some(fault) = body.fault() {
        return Failure { kind: Kind::Client(fault), progress: Progress::ClientFault, is_stale: false };
    }
    let progress = if upstream.has_written() { Progress::Sent } else { Progress::NothingSent };
    if error.is_parse() {
        return Failure { kind: Kind::Unparsable(error), progress, is_stale: false };
    }
    Failure { kind: Kind::Closed(error), progress, is_stale: upstream.is_reused }
}

// === impl Failure ===

impl Failure {
    /// What it says about the instance; `None`: nothing.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.kind {
            Kind::Connect(ConnectError::Connect(_) | ConnectError::Timeout(_) | ConnectError::Resolve(_)) => {
                Some(Outcome::ConnectFailed)
            }
            Kind::Timeout(_) => Some(Outcome::TimedOut),
            Kind::Closed(_) if !self.is_stale => Some(Outcome::Broken),
            Kind::Unparsable(_) | Kind::Malformed(_) => Some(Outcome::Malformed),
            Kind::Connect(
                ConnectError::Forbidden(_)
                | ConnectError::Handshake(_)
                | ConnectError::NoResolver(_)
                | ConnectError::Exhausted(_),
            )
            | Kind::Closed(_)
            | Kind::Client(_) => None,
        }
    }

    /// How the metrics call it; `None` when the instance has no part in it.
    pub(crate) fn metric(&self) -> Option<FailureKind> {
        match self.kind {
            Kind::Connect(ConnectError::Exhausted(_)) | Kind::Client(_) => None,
            Kind::Connect(_) => Some(FailureKind::Connect),
            Kind::Closed(_) => Some(FailureKind::Closed),
            Kind::Timeout(_) => Some(FailureKind::Timeout),
            Kind::Unparsable(_) | Kind::Malformed(_) => Some(FailureKind::Malformed),
        }
    }

    /// What the client gets when not the instance but this host is the reason.
    pub(crate) fn exhaustion(&self) -> Option<Refusal> {
        let Kind::Connect(ConnectError::Exhausted(error)) = &self.kind else { return None };
        tracing::warn!(%error, "this host has nothing left for a connection to an instance");
        Some(Refusal::Overloaded("the gateway's host has no file descriptor, port or memory left for a connection"))
    }

    /// Whether the instance refuses connections, rather than being silent or far.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&self.kind, Kind::Connect(ConnectError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// What the client gets when this was the last attempt.
    pub(crate) fn refusal(self, service: &str, candidate: &Candidate) -> Refusal {
        let address = candidate.address();
        let sentence = format!("{service}: {address} {}", self.kind);
        match self.kind {
            Kind::Connect(error) => {
                Refusal::Unreachable(format!("{service} is down: its instance {address} {}", chain(&error)))
            }
            Kind::Closed(_) if self.progress == Progress::NothingSent => Refusal::Unreachable(sentence),
            Kind::Closed(_) => Refusal::UpstreamClosed(format!("{sentence}; it may have carried out the request")),
            Kind::Unparsable(_) | Kind::Malformed(_) => Refusal::UpstreamMalformed(sentence),
            Kind::Timeout(_) => Refusal::UpstreamTimeout(sentence),
            Kind::Client(fault) => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_host_ejects_nobody_and_says_that_it_is_overloaded() {
        let kind = Kind::Connect(ConnectError::Exhausted(io::Error::other("too many open files")));
        let failure = Failure { kind, progress: Progress::NothingSent, is_stale: false };
        assert!(failure.outcome().is_none() && failure.metric().is_none());
        let problem = failure.exhaustion().unwrap().problem();
        assert_eq!((problem.status.as_u16(), &*problem.code), (503, "overloaded"));
    }
}
