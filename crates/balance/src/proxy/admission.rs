//! The gate: what a request must be to be forwarded, and which service it is for. Nothing is waited for.
//!
//! The codec has refused what two parsers could read differently ([`http1`]); what is refused here is understood, but not
//! for a gateway.

use std::{sync::Arc, time::Instant};

use http1::{Head, Method, Name, Refusal as Http, Request, Target};

use crate::{
    access::{asked::Asked, passed::Passed, rules::Access},
    load_balancing::affinity::{self, Affinity},
    message::{
        cors::{Cors, Preflight},
        gateway_error::GatewayError,
        headers::{self, Client},
        request::{RequestMeta, Rewrite, Sizes, UpstreamRequest, refusal},
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
    Index(RequestMeta),
    /// A browser is to ask for this location instead.
    Moved(&'t Service, Vec<u8>, RequestMeta),
    /// A browser asks for leave, and the service's policy answers.
    Preflight(Preflight, RequestMeta),
    /// It goes to an instance of this service; at once, or when what the service asks for is settled.
    Forward(&'t Service, Box<UpstreamRequest>, Affinity, Option<Box<Passed>>),
}

/// A request that goes nowhere, with what is needed to say so.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: GatewayError,
    pub(crate) facts: RequestMeta,
}

/// Judges a request's head, which had come at `now`, finds the service, and writes the request that leaves.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn admit<'t>(
    gateway: &Gateway,
    head: Option<Head<'_>>,
    table: &'t RoutingTable,
    client: &Client,
    now: Instant,
) -> Result<Admitted<'t>, Box<Refused>> {
    let limits = &gateway.options.limits;
    let head = head.ok_or(Http::Malformed("the head: it must end with an empty line"));
    let request = match head.and_then(|head| head.request(&gateway.http)) {
        Ok(request) => request,
        Err(error) => {
            return Err(Box::new(Refused { refusal: refusal(error, limits), facts: RequestMeta::unknown() }));
        }
    };
    let mut facts = RequestMeta::of(&request, RequestId::settle(&request.fields));
    let refuse = |refusal, facts| Box::new(Refused { refusal, facts });
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
        return Ok(Admitted::Index(facts));
    };
    let known = table.service(name);
    // Of a service that never had an instance the policy is known alone.
    let policy = known.map(|service| &**service.policy()).or_else(|| table.policy(name));
    let cors_policy = policy.map(|policy| &policy.cors);
    if let Some(preflight) = cors_policy.and_then(|policy| Preflight::of(policy, &request)) {
        return Ok(Admitted::Preflight(preflight, facts));
    }
    let Some(service) = known else {
        let cors = cors_policy.map(|policy| Cors::of(policy, &request)).unwrap_or_default();
        return Err(refuse(unavailable::unknown(name, table), RequestMeta { cors, ..facts }));
    };
    let policy = service.policy();
    facts.cors = Cors::of(&policy.cors, &request);
    let trusted = &gateway.options.trust_forwarded_from;
    let asks = |access: &Arc<Access>| {
        let wall = gateway.clock.wall();
        access.check(&Asked::new(&request, asked, client, trusted, table.keys(), wall), now)
    };
    let passed = match service.access.as_ref().map(asks).transpose() {
        Ok(passed) => passed.map(|passed| {
            let question = |rule: &_| auth_service::question(rule, &request, path_and_query, client, &facts);
            Box::new(passed.asking(question))
        }),
        Err(denial) => return Err(refuse(checked::denied(gateway, service, denial), facts)),
    };
    let sizes = Sizes {
        body_max_bytes: policy.limits.body_max_bytes.unwrap_or(limits.body_max_bytes),
        replay_max_bytes: usize::try_from(gateway.options.retries.replay_max_bytes).unwrap_or(usize::MAX),
    };
    let prefix = service.prefix.as_bytes();
    let full_prefix = || headers::full_prefix(&request.fields, client, prefix).into_owned();
    // A tunnel cannot be sent elsewhere: browsers follow no redirect of a WebSocket.
    let may_move = policy.prefix.slash && !facts.wants_upgrade;
    if let Some(location) = may_move.then(|| slash::location(&request, asked, full_prefix)).flatten() {
        return Ok(Admitted::Moved(service, location, facts));
    }
    let bytes = gateway.buffers.vec();
    if matches!(request.framing, http1::Framing::Length(length) if length > sizes.body_max_bytes) {
        return Err(refuse(GatewayError::BodyTooLarge { max_bytes: sizes.body_max_bytes }, facts));
    }
    let rewrite = Rewrite { rest: asked.as_bytes(), prefix, client };
    // Boxed, because it changes hands on its way to its attempts.
    let outgoing = Box::new(UpstreamRequest::new(bytes, &request, rewrite, facts, sizes));
    let choice = affinity::of(policy, &request, client);
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
