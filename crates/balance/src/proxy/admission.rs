//! The gate: what a request must be to be forwarded, and which service it is for. Nothing is waited for.
//!
//! The codec has refused what two parsers could read differently ([`http1`]); what is refused here is understood, but not
//! for a gateway.

use std::sync::Arc;

use http1::{BodyDecoder, Method, Name, Request, Target, parse_request};

use crate::{
    access::{asked::Asked, passed::Passed, rules::Access},
    downstream::{deadlines::ConnectionTimers, unread_body::Rest},
    load_balancing::affinity::{self, Affinity},
    message::{
        cors::{Cors, Preflight},
        headers,
        refusal::GatewayError,
        request::{RequestMeta, Sizes, UpstreamRequest, refusal},
        request_id::RequestId,
    },
    proxy::{auth_service, checked, context::Gateway, unavailable},
    routing::{slash, target},
    table::routing_table::{RoutingTable, Service},
};

/// Gateways on the way so far, ourselves not counted; more can only be a loop.
const HOPS_MAX: usize = 10;

/// What is done with a request.
#[derive(Debug)]
pub(crate) enum Admitted<'t> {
    /// It is for the gateway itself.
    Index(RequestMeta, Rest),
    /// A browser is to ask for this location instead.
    Moved(&'t Service, Vec<u8>, RequestMeta, Rest),
    /// A browser asks for leave, and the service's policy answers.
    Preflight(Preflight, RequestMeta, Rest),
    /// It goes to an instance of this service.
    Forward(&'t Service, UpstreamRequest, Affinity, Option<Box<Passed>>),
}

/// A request that goes nowhere, with what is needed to say so.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: GatewayError,
    pub(crate) facts: RequestMeta,
    pub(crate) rest: Rest,
}

/// Judges a request's head, finds the service, and writes the request that leaves.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn admit<'t>(
    gateway: &Gateway,
    head: &[u8],
    table: &'t RoutingTable,
    downstream: &ConnectionTimers,
) -> Result<Admitted<'t>, Box<Refused>> {
    let limits = &gateway.options.limits;
    let mut scratch = gateway.scratch.borrow_mut();
    let request = match parse_request(head, &mut scratch, &gateway.http) {
        Ok(request) => request,
        Err(error) => {
            let facts = RequestMeta::unknown();
            let rest = Rest::new(BodyDecoder::new(http1::Framing::Empty), &facts);
            return Err(Box::new(Refused { refusal: refusal(error, limits), facts, rest }));
        }
    };
    let mut facts = RequestMeta::of(&request, RequestId::settle(&request.fields));
    let rest = |facts: &RequestMeta| Rest::new(BodyDecoder::new(request.framing), facts);
    let refuse = |refusal, facts: RequestMeta| Box::new(Refused { refusal, rest: rest(&facts), facts });
    if let Err(refusal) = check(&request) {
        return Err(refuse(refusal, facts));
    }
    let path_and_query = match request.target {
        Target::Origin(path) => path,
        Target::Absolute { path_and_query, .. } => path_and_query,
        Target::Asterisk => b"*",
    };
    // The codec lets only visible ASCII pass.
    let path_and_query = std::str::from_utf8(path_and_query).unwrap_or_default();
    let target::Target::Service { service: name, rest: asked } = target::parse(path_and_query) else {
        let rest = rest(&facts);
        return Ok(Admitted::Index(facts, rest));
    };
    let cors_policy = table.policy(name).map(|policy| &policy.cors);
    if let Some(preflight) = cors_policy.and_then(|policy| Preflight::of(policy, &request)) {
        let rest = rest(&facts);
        return Ok(Admitted::Preflight(preflight, facts, rest));
    }
    let Some(service) = table.service(name) else {
        let cors = cors_policy.map(|policy| Cors::of(policy, &request)).unwrap_or_default();
        return Err(refuse(unavailable::unknown(name, table), RequestMeta { cors, ..facts }));
    };
    let policy = service.policy();
    let asks = |access: &Arc<Access>| access.check(&Asked::new(&request, asked, &downstream.client, table.keys()));
    facts.cors = Cors::of(&policy.cors, &request);
    let passed = match service.access.as_ref().map(asks).transpose() {
        Ok(passed) => {
            let question =
                |rule: &_| auth_service::question(rule, &request, path_and_query, &downstream.client, &facts);
            passed.map(|passed| Box::new(passed.asking(question)))
        }
        Err(denial) => return Err(refuse(checked::denied(gateway, service, denial), facts)),
    };
    let sizes = Sizes {
        body_max_bytes: policy.limits.body_max_bytes.unwrap_or(limits.body_max_bytes),
        replay_max_bytes: usize::try_from(gateway.options.retries.replay_max_bytes).unwrap_or(usize::MAX),
    };
    let prefix = service.prefix.as_bytes();
    let full_prefix = || headers::full_prefix(&request.fields, &downstream.client, prefix).into_owned();
    // A tunnel cannot be sent elsewhere: browsers follow no redirect of a WebSocket.
    let may_move = policy.prefix.slash && !facts.wants_upgrade;
    if let Some(location) = may_move.then(|| slash::location(&request, asked, full_prefix)).flatten() {
        let rest = rest(&facts);
        return Ok(Admitted::Moved(service, location, facts, rest));
    }
    let bytes = gateway.buffers.vec();
    if matches!(request.framing, http1::Framing::Length(length) if length > sizes.body_max_bytes) {
        return Err(refuse(GatewayError::BodyTooLarge { max_bytes: sizes.body_max_bytes }, facts));
    }
    let outgoing = UpstreamRequest::new(bytes, &request, asked.as_bytes(), prefix, &downstream.client, facts, sizes);
    let choice = affinity::of(policy, &request, &downstream.client);
    Ok(Admitted::Forward(service, outgoing, choice, passed))
}

fn check(request: &Request<'_>) -> Result<(), GatewayError> {
    if matches!(request.method, Method::Connect | Method::Trace) {
        return Err(GatewayError::MethodNotAllowed);
    }
    if !request.fields.has(Name::Via) {
        return Ok(());
    }
    let hops = request.fields.iter().filter(|field| field.id == Name::Via);
    if hops.map(|via| via.value.split(|byte| *byte == b',').count()).sum::<usize>() > HOPS_MAX {
        return Err(GatewayError::Loop);
    }
    Ok(())
}
