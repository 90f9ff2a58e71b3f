//! Request bodies in: JSON, bounded in size and in time, with errors that name the field.
//!
//! | what came | status | code |
//! |---|---|---|
//! | empty, not JSON | 400 | `malformed_json` |
//! | the client broke off | 400 | `body_cut_off` |
//! | JSON, but a wrong type, an unknown or a missing field | 422 | `invalid_field` |
//! | more bytes than allowed | 413 | `body_too_large` |
//! | not all there before the deadline | 408 | `body_too_slow` |
//! | a `Content-Encoding` | 415 | `unsupported_encoding` |
//!
//! The `Content-Type` is not looked at: `curl -d` sends `application/x-www-form-urlencoded`, and the plain forms are
//! meant for exactly that.

mod object;

pub use object::Object;

use std::{fmt::Display, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, error::Category};

use crate::Problem;

/// The most bytes that [`JsonBody`] reads unless a route says otherwise with [`BodyLimit`]: 64 KiB.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// How long a client may take to send its body: 10 s.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Overrides [`BODY_MAX_BYTES`] for a router: `.layer(Extension(BodyLimit(1 << 20)))`.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// A request body parsed as `T`; the rejection is a [`Problem`].
#[derive(Debug, Clone, Copy)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let limit = request.extensions().get::<BodyLimit>().map_or(BODY_MAX_BYTES, |limit| limit.0);
        parse(&read(request, limit).await?).map(Self)
    }
}

/// Reads a whole body of at most `max_bytes`, within [`BODY_DEADLINE`].
///
/// # Errors
/// 413, 408, 415, or 400 when the client broke off.
pub async fn read(request: Request, max_bytes: usize) -> Result<Bytes, Problem> {
    if let Some(encoding) = encoding(request.headers()) {
        return Err(unsupported_encoding(&encoding, "send the body as it is"));
    }
    let body = Limited::new(request.into_body(), max_bytes).collect();
    match tokio::time::timeout(BODY_DEADLINE, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(max_bytes)),
        Ok(Err(_)) => Err(cut_off()),
        Err(_) => Err(too_slow(format!("the body was not complete after {} s", BODY_DEADLINE.as_secs()))),
    }
}

/// The coding in which a body is sent (RFC 9110, section 8.4), in lower case; none when it is sent as it is.
#[must_use]
pub fn encoding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let codings: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase()).collect();
    let codings = codings.iter().flat_map(|value| value.split(',')).map(str::trim);
    let codings: Vec<_> = codings.filter(|coding| !matches!(*coding, "" | "identity")).collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}

/// 415: the body is sent in a coding that is not taken; `advice` says what to send.
#[must_use]
pub fn unsupported_encoding(encoding: &str, advice: &str) -> Problem {
    let encoding: String = encoding.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect();
    let detail = format!("Content-Encoding: {encoding} is not taken; {advice}");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail)
}

/// 413: the body has more than `max_bytes`.
#[must_use]
pub fn too_large(max_bytes: usize) -> Problem {
    let detail = format!("the body is larger than {max_bytes} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// 400: the client broke off.
#[must_use]
pub fn cut_off() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "body_cut_off", "the body ended before it was complete")
}

/// 408: the client needs too long; `detail` says for what.
pub fn too_slow(detail: String) -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
}

/// 422: the body is a list, and should be an object.
#[must_use]
pub fn is_a_list() -> Problem {
    Problem::field("body", "it is a list; send a JSON object, {\"name\": value, …}")
}

/// 400: the body is not JSON, because of `cause`.
pub fn malformed(cause: impl Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_json", format!("the body is not JSON: {cause}"))
}

/// Parses a body that is one JSON object, naming the field that is wrong.
///
/// Left to itself, serde would also take the fields of a struct from a list, in their order
/// (`["mail","10.0.0.5",7070]`), and no client sends that on purpose.
///
/// # Errors
/// 400 when it is not JSON, 422 when it is JSON of another shape.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(is_a_list());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.into_inner())
    })?;
    deserializer.end().map_err(|error| explain(".", error))?;
    Ok(value)
}

/// Makes a `T` of the fields of an object that was parsed already, naming the field that is wrong.
///
/// # Errors
/// 422 when they have another shape.
pub fn of_fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.into_inner())
    })
}

fn explain(path: &str, error: serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => {
            let field = field_of(path, &error);
            let reason = reason_of(&error, &field);
            Problem::field(field, reason)
        }
        Category::Io | Category::Syntax | Category::Eof => malformed(error),
    }
}

/// serde names a missing or unknown field only in its message; everything else has a path.
fn field_of(path: &str, error: &serde_json::Error) -> String {
    let message = error.to_string();
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    match (path, named) {
        ("." | "?", Some(name)) => name.to_owned(),
        ("." | "?", None) => "body".to_owned(),
        (path, Some(name)) if path.rsplit('.').next() != Some(name) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    }
}

/// The message without its place in the text, and without the field's name, which a field's own parser may begin with.
fn reason_of(error: &serde_json::Error, field: &str) -> String {
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    reason.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(reason).to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
        #[expect(dead_code, reason = "only parsed")]
        port: u16,
    }

    fn problem(body: &str) -> (u16, String, String) {
        let problem = parse::<Sample>(body.as_bytes()).unwrap_err();
        let field = problem.errors.first().map(|error| error.field.clone()).unwrap_or_default();
        (problem.status.as_u16(), problem.code.into_owned(), field)
    }

    #[test]
    fn what_is_not_json_is_400() {
        for body in ["", "{", "hello", "{\"name\":\"a\",}", "{\"name\":\"a\",\"port\":1} extra"] {
            let (status, code, _) = problem(body);
            assert_eq!((status, code.as_str()), (400, "malformed_json"), "{body}");
        }
    }

    #[test]
    fn json_of_another_shape_is_422_and_names_the_field() {
        for (body, field) in [
            ("{\"name\":1,\"port\":1}", "name"),
            ("{\"name\":\"a\",\"port\":70000}", "port"),
            ("{\"name\":\"a\",\"port\":\"1\"}", "port"),
            ("{\"name\":\"a\"}", "port"),
            ("{\"name\":\"a\",\"port\":1,\"color\":2}", "color"),
            ("[]", "body"),
            (" [\"a\",1]", "body"),
            ("17", "body"),
        ] {
            let (status, _, found) = problem(body);
            assert_eq!((status, found.as_str()), (422, field), "{body}");
        }
    }

    #[tokio::test]
    async fn a_body_in_a_coding_is_415_and_not_no_json() {
        let read = async |coding: &str| {
            let request = Request::builder().header(header::CONTENT_ENCODING, coding).body("{}".into()).unwrap();
            read(request, 100).await.map_err(|problem| (problem.status.as_u16(), problem.code))
        };
        for coding in ["gzip", "GZIP", "br", "identity, gzip", "nonsense"] {
            assert_eq!(read(coding).await, Err((415, "unsupported_encoding".into())), "{coding}");
        }
        for coding in ["", "identity"] {
            assert_eq!(read(coding).await, Ok("{}".into()), "{coding}");
        }
    }

    #[test]
    fn fields_that_were_parsed_before_are_held_to_the_same_shape() {
        for (fields, field) in [
            ("{\"name\":1,\"port\":1}", "name"),
            ("{\"name\":\"a\"}", "port"),
            ("{\"name\":\"a\",\"port\":1,\"color\":2}", "color"),
        ] {
            let problem = of_fields::<Sample>(serde_json::from_str(fields).unwrap()).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.errors[0].field.as_str()), (422, field), "{fields}");
        }
    }

    #[test]
    fn a_field_whose_parser_names_it_is_named_once() {
        #[derive(Debug, Deserialize)]
        struct Strict {
            #[expect(dead_code, reason = "only parsed")]
            port: Port,
        }
        #[derive(Debug, Deserialize)]
        #[serde(try_from = "u16")]
        struct Port;
        impl TryFrom<u16> for Port {
            type Error = &'static str;
            fn try_from(_: u16) -> Result<Self, &'static str> {
                Err("port: it is taken; choose another")
            }
        }
        let problem = parse::<Strict>(b"{\"port\":1}").unwrap_err();
        assert_eq!(problem.detail, "port: it is taken; choose another");
    }
}
