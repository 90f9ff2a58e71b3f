//! The layer that finds out who is asking.

use std::time::SystemTime;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{Caller, Refusal, Tokens};
use crate::{
    Problem, json,
    signature::{self, legacy, message},
};

/// The largest body of a signed request, which must be read before the signature can be checked: 1 MiB.
const SIGNED_BODY_MAX_BYTES: usize = 1024 * 1024;

/// Middleware (`from_fn_with_state(tokens, authenticate)`): refuses who proves nothing, and tells the handlers who
/// asks.
///
/// A caller that is authenticated may still have no rights: [`Caller::require`] checks them.
pub async fn authenticate(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    match tokens.identify(&mut request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            challenged(caller.asking(next.run(request)).await)
        }
        Err(refused) => refused,
    }
}

// === impl Tokens ===

impl Tokens {
    /// Who sends `request`; of a signed one, the body is read.
    ///
    /// # Errors
    ///
    /// What to answer to one that proves nothing: 401 with a challenge, or what is wrong with the body.
    pub async fn identify(&self, request: &mut Request) -> Result<Caller, Response> {
        if self.is_open() {
            return Ok(Caller::Anonymous);
        }
        identify(self, request).await.map_err(|refused| match refused {
            Refused::Body(problem) => problem.into_response(),
            Refused::Proof(refusal) => {
                self.count(refusal);
                refuse(refusal, "")
            }
            Refused::Signature(why) => {
                self.count(Refusal::Signature);
                refuse(Refusal::Signature, why)
            }
        })
    }

    /// Who sends the next message of a stream that began with this `Authorization`: tokens may have changed since. A
    /// signature is for one request, and says nothing about a stream.
    ///
    /// # Errors
    ///
    /// 401 `token_missing`, `token_unknown`.
    pub fn caller_of(&self, authorization: Option<&HeaderValue>) -> Result<Caller, Problem> {
        if self.is_open() {
            return Ok(Caller::Anonymous);
        }
        let given = authorization.and_then(|value| value.to_str().ok()?.split_once(' '));
        let token = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let caller = match token {
            None => Err(Refusal::Missing),
            Some(token) => self.bearer(token).map(Caller::Holder).ok_or(Refusal::Unknown),
        };
        caller.map_err(|refusal| {
            self.count(refusal);
            problem(refusal, "").0
        })
    }

    /// Who `caller` is now, whom a token or a signature once proved: for what lasts longer than a request.
    ///
    /// # Errors
    ///
    /// 401 `token_unknown`: it has been withdrawn since.
    pub fn again(&self, caller: &Caller) -> Result<Caller, Problem> {
        let (Caller::Holder(grant), Some(file)) = (caller, &self.file) else { return Ok(caller.clone()) };
        file.get().again(grant).map(Caller::Holder).ok_or_else(|| {
            self.count(Refusal::Unknown);
            problem(Refusal::Unknown, "").0
        })
    }
}

/// A handler that finds its caller's token withdrawn answers 401, too, and that has a challenge (RFC 9110, section
/// 11.6.1).
#[must_use]
pub fn challenged(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        let (_, challenge) = problem(Refusal::Unknown, "");
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().entry(header::WWW_AUTHENTICATE).or_insert(challenge);
    }
    response
}

enum Refused {
    Proof(Refusal),
    /// A signature, and why.
    Signature(&'static str),
    /// The body of a signed request could not be read.
    Body(Problem),
}

/// Why a signature is not taken, when more must not be said.
const WRONG: &str = "a wrong key, a clock that is off by more than 30 s, or a request sent twice";

async fn identify(tokens: &Tokens, request: &mut Request) -> Result<Caller, Refused> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, rest)) = given.and_then(|value| value.split_once(' ')) else {
        return match message::is_signed(request.headers()) {
            true => verify(tokens, request).await,
            false => Err(Refused::Proof(Refusal::Missing)),
        };
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return tokens.bearer(rest.trim()).map(Caller::Holder).ok_or(Refused::Proof(Refusal::Unknown));
    }
    if scheme.eq_ignore_ascii_case(legacy::SCHEME) {
        let signed = legacy::Signed::parse(rest).ok_or(Refused::Signature(WRONG))?;
        return verify_legacy(tokens, &signed, request).await;
    }
    Err(Refused::Proof(Refusal::Missing))
}

/// Reads the body, checks the signature over it, and puts it back.
///
/// The nonce is noted only for a signature that holds: otherwise any client could fill the memory for nonces.
async fn verify(tokens: &Tokens, request: &mut Request) -> Result<Caller, Refused> {
    let now = SystemTime::now();
    let refused = || Refused::Signature(WRONG);
    let signed = message::Signed::read(request.headers()).map_err(Refused::Signature)?;
    let (key, grant) = tokens.signing(&signed.name).filter(|_| signed.is_current(now)).ok_or_else(refused)?;
    let body = read_body(request).await?;
    let (head, _) = std::mem::take(request).into_parts();
    let checked = signed.check(&key, &head, &body);
    *request = Request::from_parts(head, Body::from(body));
    checked.map_err(Refused::Signature)?;
    if tokens.is_first(&signed.name, &signed.nonce, now) { Ok(Caller::Holder(grant)) } else { Err(refused()) }
}

/// The same for the form of older clients. With a condition it is refused, but its nonce is spent: a program that has
/// recorded it cannot send it here without.
async fn verify_legacy(tokens: &Tokens, signed: &legacy::Signed, request: &mut Request) -> Result<Caller, Refused> {
    let now = SystemTime::now();
    let refused = || Refused::Signature(WRONG);
    let (key, grant) = tokens.signing(&signed.name).filter(|_| signed.is_current(now)).ok_or_else(refused)?;
    let body = read_body(request).await?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let holds = signed.holds(&key, request.method().as_str(), target, &body);
    *request.body_mut() = Body::from(body);
    if !holds || !tokens.is_first(&signed.name, &signed.nonce, now) {
        return Err(refused());
    }
    if signature::is_conditional(request.headers()) {
        let why = "this older form covers no conditions (If-Match and the like); sign as RFC 9421 says";
        return Err(Refused::Signature(why));
    }
    Ok(Caller::Holder(grant))
}

async fn read_body(request: &mut Request) -> Result<axum::body::Bytes, Refused> {
    let body = Request::new(std::mem::take(request.body_mut()));
    json::read(body, SIGNED_BODY_MAX_BYTES).await.map_err(Refused::Body)
}

/// 401 with the challenge that RFC 6750 section 3 asks for.
fn refuse(refusal: Refusal, why: &str) -> Response {
    let (problem, challenge) = problem(refusal, why);
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

fn problem(refusal: Refusal, why: &str) -> (Problem, &'static str) {
    let (code, detail, challenge) = match refusal {
        Refusal::Missing => (
            "token_missing",
            "a token is needed; send the header Authorization: Bearer TOKEN".to_owned(),
            "Bearer realm=\"muster\"",
        ),
        Refusal::Unknown => (
            "token_unknown",
            "the token is not known here; it may have been withdrawn".to_owned(),
            "Bearer realm=\"muster\", error=\"invalid_token\"",
        ),
        Refusal::Signature => (
            "signature_refused",
            format!("the signature does not hold: {why}"),
            "Bearer realm=\"muster\", error=\"invalid_token\"",
        ),
    };
    (Problem::new(StatusCode::UNAUTHORIZED, code, detail), challenge)
}
