//! Asking a service who may pass (`auth.forward`).
//!
//! The service is one by name, like any other: its instances are picked, ejected and retried, and its own policy's
//! deadlines hold. It gets a GET with the fields of the request, without its body, and with `X-Forwarded-Method` and
//! `X-Forwarded-Uri`. What it answers is the judgement: 2xx lets the request through, as it was; a redirect, 401 and
//! 403 are the client's answer; everything else, and no answer, lets nothing through.

use std::sync::Arc;

use discovery::policy::ForwardAuth;
use http1::{Framing, Method, Request, write};

use crate::{
    access::identity::{self, Identity},
    downstream::deadlines::ConnectionTimers,
    io::wire::{BufferedStream, Stream},
    load_balancing::affinity::Affinity,
    message::{
        denial::Denial,
        headers::Client,
        request::{RequestMeta, Sizes, UpstreamRequest},
        response::DownstreamResponse,
    },
    proxy::{
        context::Gateway,
        forward::{Forward, Served, status},
        relay::End,
        reply::Next,
    },
};

/// What is about the request's body or a stored answer, and not about its client; and what only the gateway may say.
const LEFT_OUT: [&str; 12] = [
    "content-encoding",
    "content-length",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "x-forwarded-method",
    "x-forwarded-uri",
];

/// Why a request does not pass.
#[derive(Debug)]
pub(super) enum Judgement {
    Refused(Box<Denial>),
    /// The client has its answer.
    Answered(Next),
}

/// The question about a request for `target`, path and query.
pub(super) fn question(
    rule: &ForwardAuth,
    request: &Request<'_>,
    target: &str,
    client: &Client,
    facts: &RequestMeta,
) -> UpstreamRequest {
    let framing = Framing::Empty;
    let asking = Request { method: Method::Get, framing, upgrade: None, expects_continue: false, ..*request };
    let mut meta = RequestMeta::of(&asking, facts.id.clone());
    meta.cors = facts.cors.clone();
    // If the answer is the client's, a body that is still to come is not read: nothing may follow on that connection.
    meta.keep_alive &= request.framing == Framing::Empty;
    let prefix = format!("/{}", rule.service);
    let sizes = Sizes { body_max_bytes: 0, replay_max_bytes: usize::MAX };
    let path = rule.path.as_bytes();
    let mut question = UpstreamRequest::new(Vec::new(), &asking, path, prefix.as_bytes(), client, meta, sizes);
    if let Some(head) = question.open_head() {
        identity::replace(head, || LEFT_OUT.iter(), None);
        write::field(head, b"X-Forwarded-Method", request.method.as_bytes());
        write::field(head, b"X-Forwarded-Uri", target.as_bytes());
    }
    question
}

impl Gateway {
    /// Asks who the client is, and passes the answer on where it is the client's.
    ///
    /// # Errors
    ///
    /// The request does not pass.
    pub(super) async fn ask_auth_service<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        rule: &ForwardAuth,
        question: UpstreamRequest,
        downstream: &ConnectionTimers,
    ) -> Result<Arc<Identity>, Judgement> {
        let table = self.table.load();
        let Some(service) = table.service(&rule.service) else { return Err(away()) };
        let mut asking = Box::new(Forward::new(self, service, question, Affinity::default(), downstream));
        let served = asking.serve(client).await;
        self.counters(service).responded(status(&served), asking.lasted());
        if matches!(&served, Ok(Served::ClientClosed) | Err(_)) {
            self.queues.one_left(&service.name);
        }
        match served {
            Ok(Served::Response { begun, answer, mut attempt }) if (200..300).contains(&begun.status) => {
                let identity = identity(rule, &answer);
                self.leave(&mut attempt);
                if answer.is_read() {
                    self.finish(client, &End::Complete, answer, attempt, &mut asking.request);
                }
                Ok(Arc::new(identity))
            }
            Ok(Served::Response { begun, mut answer, mut attempt }) if is_for_client(begun.status) => {
                let end = self.relay(client, &mut asking, begun, &mut answer, &mut attempt).await;
                Err(Judgement::Answered(self.finish(client, &end, answer, attempt, &mut asking.request)))
            }
            Ok(Served::ClientClosed) => Err(Judgement::Answered(Next::Close)),
            Ok(Served::Response { .. } | Served::Tunnel { .. }) | Err(_) => Err(away()),
        }
    }
}

fn is_for_client(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308 | 401 | 403)
}

pub(super) fn away() -> Judgement {
    Judgement::Refused(Box::new(Denial::unavailable("the service that says who may pass does not answer; come again")))
}

/// Who the client is by the fields that are passed on; the first of them that is there is its name.
fn identity(rule: &ForwardAuth, answer: &DownstreamResponse) -> Identity {
    let lines = answer.own_bytes().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let lines: Vec<&[u8]> = lines.skip(1).take_while(|line| !line.is_empty()).collect();
    let value = |name: &String| {
        let values = lines.iter().filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        });
        Some((name.as_str().into(), std::str::from_utf8(values.into_iter().next()?).ok()?.to_owned()))
    };
    let fields: Vec<(Arc<str>, String)> = rule.pass.iter().filter_map(value).collect();
    let name = fields.first().map(|(_, value)| value.clone()).unwrap_or_default();
    Identity { fields, ..Identity::new("forward", &name) }
}
