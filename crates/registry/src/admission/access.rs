//! The layer around all routes: how often a client may ask, and which path needs which scope.
//!
//! | path | method | scope |
//! |---|---|---|
//! | `/`, `/v1/agent/service/…`, `/v1/agent/check/…` | POST, PUT | `register` for some service; for which, is asked when it is known |
//! | `/v1/services/{service}/instances/{instance}` | PUT, DELETE | `{service}:register` |
//! | `…/override` | any but GET | `{service}:operate` |
//! | `/v1/config/{service}…` | any but GET | `{service}:config` |
//! | `/v1/agent/self`, `/openapi.json` | GET | `read` for some service |
//! | `/muster.v1.Registry/…` | POST | `register`, or `read`, for some service; for which, is asked when it is known |
//! | `/v1/muster.proto`, server reflection | GET, POST | `read` for some service |
//! | any with a service in its path, and `/v1/watch?service={service}` | GET, HEAD | `{service}:read` |
//! | any other | GET, HEAD | `*:read` |
//! | any other | any other | `*:operate` |
//!
//! The last two lines are for paths that do not exist yet: what was not foreseen needs the most.
//! `/healthz`, `/readyz` and `/metrics` need no token, nor does `grpc.health.v1`.
//!
//! A message of a stream is a request of its own: it is asked the same by [`Requester`]. An answer that lasts, to one
//! who watches or waits, ends when the token is withdrawn or loses the scope: `Right`.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
};

use axum::{
    RequestExt as _, Router,
    extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State},
    http::{HeaderValue, Method, header::AUTHORIZATION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use service_kit::{
    Problem,
    tokens::{Action, Caller, Tokens, challenged},
};
use tokio::{sync::watch, time::Instant};

use super::{Admission, CLIENT, Denied};

/// A call whose messages are asked one by one.
pub(crate) const HEARTBEAT_STREAM: &str = "/muster.v1.Registry/Register";

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Needed {
    /// A scope for this service; `*` for all of them at once.
    For(String, Action),
    /// A scope for at least one service.
    Somewhere(Action),
}

/// Who sends the messages of a stream. An extension of every stream of heartbeats that came through
/// [`guard`].
#[derive(Debug, Clone)]
pub struct Requester {
    admission: Admission,
    tokens: Tokens,
    client: Option<IpAddr>,
    authorization: Option<HeaderValue>,
    /// The request itself has been let pass, and with it the first message.
    has_begun: bool,
}

/// By which token and scope the request of this task was let pass; kept by what lasts longer than a look at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    tokens: Tokens,
    caller: Caller,
    needed: Needed,
    changes: watch::Receiver<u64>,
}

tokio::task_local! {
    static RIGHT: Right;
}

/// What every request passes.
#[derive(Debug, Clone)]
struct Gate {
    admission: Admission,
    tokens: Tokens,
}

/// Puts the layer around `routes`. One for all that it asks: axum copies what is within a layer for every request, once
/// for each layer.
pub fn guard(routes: Router, admission: Admission, tokens: Tokens) -> Router {
    routes.layer(from_fn_with_state(Gate { admission, tokens }, admit))
}

/// The rate of clients alone, for what needs no token.
pub fn limit(routes: Router, admission: Admission) -> Router {
    routes.layer(from_fn_with_state(admission, slow_down))
}

/// Refuses a client that asks too often, and remembers where the others are.
async fn slow_down(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    match admission.enter(&request) {
        Ok(Some(client)) => CLIENT.scope(client, next.run(request)).await,
        Ok(None) => next.run(request).await,
        Err(denied) => Problem::from(&denied).into_response(),
    }
}

/// The same, and who sends what; refuses who may not.
async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.admission.enter(&request) {
        Ok(Some(client)) => CLIENT.scope(client, gate.pass(request, next)).await,
        Ok(None) => gate.pass(request, next).await,
        Err(denied) => Problem::from(&denied).into_response(),
    }
}

// === impl Gate ===

impl Gate {
    async fn pass(self, mut request: Request, next: Next) -> Response {
        let caller = match self.tokens.identify(&mut request).await {
            Ok(caller) => caller,
            Err(refused) => return refused,
        };
        let route = request.extensions().get::<MatchedPath>().cloned();
        let route = route.as_ref().map_or("", MatchedPath::as_str);
        if route == HEARTBEAT_STREAM {
            let requester = self.requester(&request);
            request.extensions_mut().insert(requester);
        }
        if caller == Caller::Anonymous {
            return caller.asking(next.run(request)).await;
        }
        let needed = needed_by(route, &mut request).await;
        if let Err(problem) = needed.of(&caller) {
            return problem.into_response();
        }
        let right = Right::new(self.tokens, caller.clone(), needed);
        let asked = caller.asking(async {
            match right {
                Some(right) => RIGHT.scope(right, next.run(request)).await,
                None => next.run(request).await,
            }
        });
        challenged(asked.await)
    }

    fn requester(&self, request: &Request) -> Requester {
        let Self { admission, tokens } = self.clone();
        let authorization = request.headers().get(AUTHORIZATION).cloned();
        Requester { admission, tokens, client: super::client(), authorization, has_begun: false }
    }
}

// === impl Admission ===

impl Admission {
    /// Counts `request` against the rate of its client, which is returned as far as it is known.
    fn enter(&self, request: &Request) -> Result<Option<IpAddr>, Denied> {
        let client = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let client = client.map(|ConnectInfo(client)| client.ip().to_canonical());
        client.map(|client| self.take_turn(client).map(|()| client)).transpose()
    }

    fn take_turn(&self, client: IpAddr) -> Result<(), Denied> {
        let turn = self.0.rates.take(client, Instant::now());
        turn.map_err(|retry_after| Denied::Rate { client, retry_after }).inspect_err(|denied| self.count(denied))
    }
}

// === impl Requester ===

impl Requester {
    /// Does `work` for the next message of the stream, if it is let pass: the client's rate counts it, and the token is
    /// looked up again, because it may have been withdrawn.
    ///
    /// # Errors
    ///
    /// 429 `rate_limited`, 401; and what `work` says.
    pub async fn ask<T>(&mut self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        if let Some(client) = self.client.filter(|_| has_begun) {
            self.admission.take_turn(client).map_err(|denied| Problem::from(&denied))?;
        }
        let caller = self.tokens.caller_of(self.authorization.as_ref())?;
        let work = caller.asking(work);
        match self.client {
            Some(client) => CLIENT.scope(client, work).await,
            None => work.await,
        }
    }
}

/// What the request needs, which came by `route`.
async fn needed_by(route: &str, request: &mut Request) -> Needed {
    let service = match request.extract_parts::<RawPathParams>().await {
        Ok(parameters) => service_in_path(&parameters).or_else(|| watched(route, request.uri().query())),
        // What is not text is refused by the handler.
        Err(_) => None,
    };
    needed(request.method(), route, service)
}

// === impl Needed ===

impl Needed {
    fn of(&self, caller: &Caller) -> Result<(), Problem> {
        match self {
            Self::For(service, action) => caller.require(service, *action),
            Self::Somewhere(action) => caller.require_somewhere(*action),
        }
    }
}

// === impl Right ===

impl Right {
    fn new(tokens: Tokens, caller: Caller, needed: Needed) -> Option<Self> {
        let mut changes = tokens.changes()?;
        // The file may have changed since the token was looked up.
        changes.mark_changed();
        Some(Self { tokens, caller, needed, changes })
    }

    /// That of the request of this task; `None`: it needed no token.
    pub(crate) fn current() -> Option<Self> {
        RIGHT.try_with(Clone::clone).ok()
    }

    /// The same to do `action` to `service` alone.
    pub(crate) fn only(self, service: &str, action: Action) -> Self {
        Self { needed: Needed::For(service.to_owned(), action), ..self }
    }

    /// Returns when there is no such right any more: what to answer then. Cancel safe.
    pub(crate) async fn lost(right: &mut Option<Self>) -> Problem {
        let Some(right) = right else { return pending().await };
        loop {
            if right.changes.changed().await.is_err() {
                // The file is not read any more: the registry ends.
                pending::<()>().await;
            }
            let caller = right.tokens.again(&right.caller);
            if let Err(problem) = caller.and_then(|caller| right.needed.of(&caller)) {
                return problem;
            }
        }
    }
}

/// The service that a request is about, if its path says so.
fn service_in_path(parameters: &RawPathParams) -> Option<String> {
    let named = |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let of_key = || named("key")?.trim_start_matches('/').split('/').next();
    named("service").or_else(of_key).map(str::to_owned)
}

/// The service that is watched. Only this path reads it from the query: for any other, a query that names one service
/// must not open the list of all. Twice, or in disguise, is a riddle that needs the right to read everything.
fn watched(route: &str, query: Option<&str>) -> Option<String> {
    let query = query.filter(|query| route == "/v1/watch" && !query.contains(['%', '+']))?;
    let services: Vec<&str> = query.split('&').filter_map(|part| part.strip_prefix("service=")).collect();
    if let [service] = services[..] { Some(service.to_owned()) } else { None }
}

fn needed(method: &Method, route: &str, service: Option<String>) -> Needed {
    let of = |service: Option<String>, action| Needed::For(service.unwrap_or_else(|| "*".to_owned()), action);
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    match route {
        "/v1/agent/self" | "/openapi.json" | "/v1/muster.proto" if is_reading => Needed::Somewhere(Action::Read),
        _ if is_reading => of(service, Action::Read),
        "/" | HEARTBEAT_STREAM | "/muster.v1.Registry/Deregister" => Needed::Somewhere(Action::Register),
        "/muster.v1.Registry/List" | "/muster.v1.Registry/Watch" => Needed::Somewhere(Action::Read),
        route if route.starts_with("/grpc.reflection.v1.ServerReflection/") => Needed::Somewhere(Action::Read),
        route if route.starts_with("/v1/agent/service/") || route.starts_with("/v1/agent/check/") => {
            Needed::Somewhere(Action::Register)
        }
        route if route.ends_with("/override") => of(service, Action::Operate),
        route if route.starts_with("/v1/config") => of(service, Action::Config),
        "/v1/services/{service}/instances/{instance}" => of(service, Action::Register),
        _ => of(None, Action::Operate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_service_of_a_watch_and_of_nothing_else() {
        let found = |route, query| watched(route, Some(query));
        assert_eq!(found("/v1/watch", "service=mail").as_deref(), Some("mail"));
        for route in ["/v1/services", "/v1/prometheus/targets", "/v1/config", "/v1/catalog/services"] {
            assert_eq!(found(route, "service=mail"), None, "{route}");
        }
        for query in ["", "service=a&service=b", "service=a&%73ervice=b", "service=%61", "x=service=a"] {
            assert_eq!(found("/v1/watch", query), None, "{query}");
        }
    }

    #[test]
    fn every_path_needs_its_scope_and_an_unknown_one_the_most() {
        let mail = || Some("mail".to_owned());
        let needs = |service: &str, action| Needed::For(service.to_owned(), action);
        let instance = "/v1/services/{service}/instances/{instance}";
        let overriding = format!("{instance}/override");
        for (method, route, service, expected) in [
            (Method::POST, "/", None, Needed::Somewhere(Action::Register)),
            (Method::PUT, instance, mail(), needs("mail", Action::Register)),
            (Method::DELETE, instance, mail(), needs("mail", Action::Register)),
            (Method::PUT, &overriding, mail(), needs("mail", Action::Operate)),
            (Method::GET, "/v1/services", None, needs("*", Action::Read)),
            (Method::GET, "/v1/services/{service}/instances", mail(), needs("mail", Action::Read)),
            (Method::PUT, "/v1/config/{*key}", mail(), needs("mail", Action::Config)),
            (Method::GET, "/v1/agent/self", None, Needed::Somewhere(Action::Read)),
            (Method::PUT, "/v1/agent/service/register", None, Needed::Somewhere(Action::Register)),
            (Method::POST, "/muster.v1.Registry/Register", None, Needed::Somewhere(Action::Register)),
            (Method::POST, "/muster.v1.Registry/Watch", None, Needed::Somewhere(Action::Read)),
            (Method::POST, "/muster.v1.Registry/New", None, needs("*", Action::Operate)),
            (Method::GET, "/v1/something/new", None, needs("*", Action::Read)),
            (Method::POST, "/v1/something/new", mail(), needs("*", Action::Operate)),
        ] {
            assert_eq!(needed(&method, route, service), expected, "{method} {route}");
        }
    }
}
