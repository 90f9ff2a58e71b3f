//! Asking a service who may pass (`auth.forward`).
//!
//! The service is one by name, like any other: its instances are picked, ejected and retried, and its own policy's
//! deadlines hold. It gets a GET with the fields of the request, without its body, and with `X-Forwarded-Method` and
//! `X-Forwarded-Uri`. What it answers is the judgement: 2xx lets the request through, as it was; a redirect, 401 and
//! 403 are the client's answer; everything else, and no answer, lets nothing through.

use std::sync::Arc;

use discovery::policy::ForwardAuth;
use http::StatusCode;
use http1::{Framing, Method, Request, write};

use crate::{
    access::identity::{self, Identity},
    downstream::{
        deadlines::ConnectionTimers,
        exchange::{DownstreamExchange, Ended},
    },
    load_balancing::affinity::Affinity,
    message::{
        cors::Cors,
        denial::Denial,
        headers::Client,
        problem_response::OwnResponse,
        request::{RequestMeta, Rewrite, Sizes, UpstreamRequest},
    },
    proxy::{
        context::{Gateway, RequestContext},
        forward::{Forward, Served},
        question::Question,
        relay::End,
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
    /// The service's answer is the client's.
    Answered(OwnResponse),
    /// The client has left.
    ClientClosed,
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
    let meta = RequestMeta { cors: facts.cors.clone(), ..RequestMeta::of(&asking, facts.id.clone()) };
    let prefix = format!("/{}", rule.service);
    let rewrite = Rewrite { rest: rule.path.as_bytes(), prefix: prefix.as_bytes(), client };
    let sizes = Sizes { body_max_bytes: 0, replay_max_bytes: usize::MAX };
    let mut question = UpstreamRequest::new(Vec::new(), &asking, rewrite, meta, sizes);
    if let Some(head) = question.open_head() {
        identity::replace(head, || LEFT_OUT.iter(), None);
        write::field(head, b"X-Forwarded-Method", request.method.as_bytes());
        write::field(head, b"X-Forwarded-Uri", target.as_bytes());
    }
    question
}

impl Gateway {
    /// Asks who the client is.
    ///
    /// # Errors
    ///
    /// The request does not pass.
    pub(super) async fn ask_auth_service<D: DownstreamExchange>(
        &self,
        client: &mut D,
        timers: &ConnectionTimers,
        rule: &ForwardAuth,
        question: UpstreamRequest,
    ) -> Result<Arc<Identity>, Judgement> {
        let table = self.table.load();
        let Some(service) = table.service(&rule.service) else { return Err(away()) };
        let context = RequestContext::new(self, service, timers);
        let mut asking = Box::new(Forward::new(context, Box::new(question), Affinity::default(), self.clock.read()));
        let mut question = Question::of(client);
        match self.serve(&mut question, &mut asking).await {
            Ok(Served::Response { begun, mut attempt }) if (200..300).contains(&begun.status) => {
                self.leave(&mut attempt);
                // What has not come of it is not read: its connection ends.
                if attempt.exchange().0.is_some_and(|exchange| exchange.is_over()) {
                    self.finish(&End::Complete, attempt, &mut asking);
                }
                Ok(Arc::new(identity(rule, &question)))
            }
            Ok(Served::Response { begun, mut attempt }) if is_for_client(begun.status) => {
                let end = self.relay(&mut question, &mut asking, begun, &mut attempt).await;
                self.finish(&end, attempt, &mut asking);
                match (end, StatusCode::from_u16(begun.status)) {
                    (End::Complete, Ok(status)) => Err(Judgement::Answered(question.into_answer(status))),
                    (End::ClientClosed, _) if !question.is_too_long() => Err(Judgement::ClientClosed),
                    _ => Err(away()),
                }
            }
            Ok(Served::ClientClosed) => Err(Judgement::ClientClosed),
            Ok(Served::Response { .. } | Served::Tunnel { .. }) | Err(_) => Err(away()),
        }
    }

    /// Passes on what the service has answered. Its head says already what pages of other sites may read.
    pub(super) async fn pass_judgement_on<D: DownstreamExchange>(
        &self,
        client: &mut D,
        timers: &ConnectionTimers,
        facts: &RequestMeta,
        answer: OwnResponse,
    ) -> Ended {
        let facts = RequestMeta { cors: Cors::Unsaid, ..facts.clone() };
        self.answer(client, timers, &facts, answer).await
    }
}

fn is_for_client(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308 | 401 | 403)
}

pub(super) fn away() -> Judgement {
    Judgement::Refused(Box::new(Denial::unavailable("the service that says who may pass does not answer; come again")))
}

/// Who the client is by the fields that are passed on; the first that the rule names is its name.
fn identity<D>(rule: &ForwardAuth, answer: &Question<'_, D>) -> Identity {
    let value = |name: &String| {
        let mut fields = answer.fields();
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))?;
        Some((name.as_str().into(), std::str::from_utf8(value).ok()?.to_owned()))
    };
    let fields: Vec<(Arc<str>, String)> = rule.pass.iter().filter_map(value).collect();
    let is_first = |field: &str| rule.pass.first().is_some_and(|first| first == field);
    let name = fields.first().filter(|(field, _)| is_first(field)).map(|(_, value)| value.clone()).unwrap_or_default();
    Identity { fields, ..Identity::new("forward", &name) }
}
