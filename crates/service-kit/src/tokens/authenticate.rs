//! The layer that finds out who is asking.

use std::time::SystemTime;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{Caller, Refusal, Tokens, caller::CURRENT};
use crate::{Problem, json, signature};

/// The largest body of a signed request, which must be read before the signature can be checked: 1 MiB.
const SIGNED_BODY_MAX_BYTES: usize = 1024 * 1024;

/// Middleware (`from_fn_with_state(tokens, authenticate)`): refuses who proves nothing, and tells the handlers who asks.
///
/// Whoever is let in may still do nothing: that is for [`Caller::require`] to say.
pub async fn authenticate(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let caller = if tokens.is_open() { Ok(Caller::Anybody) } else { identify(&tokens, &mut request).await };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            CURRENT.scope(caller, next.run(request)).await
        }
        Err(Refused::Body(problem)) => problem.into_response(),
        Err(Refused::Proof(refusal)) => {
            tokens.count(refusal);
            refuse(refusal)
        }
    }
}

enum Refused {
    Proof(Refusal),
    /// The body of a signed request could not be read.
    Body(Problem),
}

async fn identify(tokens: &Tokens, request: &mut Request) -> Result<Caller, Refused> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, rest) = given.and_then(|value| value.split_once(' ')).ok_or(Refused::Proof(Refusal::Missing))?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return tokens.bearer(rest.trim()).map(Caller::Holder).ok_or(Refused::Proof(Refusal::Unknown));
    }
    if scheme.eq_ignore_ascii_case(signature::SCHEME) {
        let signed = signature::Signed::parse(rest).ok_or(Refused::Proof(Refusal::Signature))?;
        return verify(tokens, &signed, request).await;
    }
    Err(Refused::Proof(Refusal::Missing))
}

/// Reads the body, checks the signature over it, and puts it back.
///
/// The nonce is noted only for a signature that holds: otherwise anybody could fill the memory for nonces.
async fn verify(tokens: &Tokens, signed: &signature::Signed, request: &mut Request) -> Result<Caller, Refused> {
    let refused = || Refused::Proof(Refusal::Signature);
    let now = SystemTime::now();
    let (key, grant) = tokens.signing(&signed.name).filter(|_| signed.is_current(now)).ok_or_else(refused)?;
    let method = request.method().clone();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let body = Request::new(std::mem::replace(request.body_mut(), Body::empty()));
    let body = json::read(body, SIGNED_BODY_MAX_BYTES).await.map_err(Refused::Body)?;
    let holds = signed.holds(&key, method.as_str(), &target, &body);
    *request.body_mut() = Body::from(body);
    match holds && tokens.is_first(&signed.name, &signed.nonce, now) {
        true => Ok(Caller::Holder(grant)),
        false => Err(refused()),
    }
}

/// 401 with the challenge that RFC 6750 section 3 asks for.
fn refuse(refusal: Refusal) -> Response {
    let (code, detail, challenge) = match refusal {
        Refusal::Missing => (
            "token_missing",
            "a token is needed; send the header Authorization: Bearer TOKEN",
            "Bearer realm=\"muster\"",
        ),
        Refusal::Unknown => (
            "token_unknown",
            "the token is not known here; it may have been withdrawn",
            "Bearer realm=\"muster\", error=\"invalid_token\"",
        ),
        Refusal::Signature => (
            "signature_refused",
            "the signature does not hold: a wrong key, a clock that is off by more than 30 s, or a request sent twice",
            "Bearer realm=\"muster\", error=\"invalid_token\"",
        ),
    };
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, code, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
