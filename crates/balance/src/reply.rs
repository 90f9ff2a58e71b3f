//! Answers of our own, as a client gets them: always a problem (RFC 9457), always with the request id.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use service_kit::{problem, request::REQUEST_ID};

use crate::refusal::Refusal;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static(problem::MEDIA_TYPE);

/// A refusal as a response; the caller wraps the body.
pub(crate) fn refuse(refusal: &Refusal, id: &HeaderValue) -> Response<Bytes> {
    let problem = refusal.problem();
    let mut response = Response::new(body(&problem, id));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    if let Some(secs) = problem.retry_after_secs() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    if *refusal == Refusal::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    if refusal.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(REQUEST_ID, id.clone());
    response
}

/// JSON with status 200.
pub(crate) fn json(value: &serde_json::Value, id: &HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(REQUEST_ID, id.clone());
    response
}

/// A refusal as bytes, for a connection that no longer speaks HTTP with us. Nothing follows it.
pub(crate) fn last_words(refusal: &Refusal, id: &HeaderValue) -> Vec<u8> {
    let response = refuse(refusal, id);
    let status: StatusCode = response.status();
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("Error")).into_bytes();
    for (name, value) in response.headers() {
        if name != header::CONNECTION {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(
        format!("content-length: {}\r\nconnection: close\r\n\r\n", response.body().len()).as_bytes(),
    );
    bytes.extend_from_slice(response.body());
    bytes
}

/// The problem's JSON with the request id, which only the gateway knows.
fn body(problem: &service_kit::Problem, id: &HeaderValue) -> Bytes {
    let mut json = problem.to_json();
    if let (Some('}'), Ok(id)) = (json.pop(), id.to_str()) {
        // The id has no character that JSON would escape.
        json.push_str(&format!(",\"request_id\":\"{id}\"}}"));
    }
    Bytes::from(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: HeaderValue = HeaderValue::from_static("id-1");

    #[test]
    fn a_refusal_is_a_problem_with_the_request_id_in_header_and_body() {
        let response = refuse(&Refusal::NoInstance("mail is down".to_owned()), &ID);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(
            (&response.headers()["retry-after"], &response.headers()["x-request-id"]),
            (&"2".parse().unwrap(), &ID)
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((body["code"].as_str(), body["request_id"].as_str()), (Some("no_instance"), Some("id-1")));
        assert_eq!(body["detail"], "mail is down");
    }

    #[test]
    fn last_words_are_a_whole_response_that_ends_the_connection() {
        let text = String::from_utf8(last_words(&Refusal::MethodNotAllowed, &ID)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{head}");
        assert_eq!(head.matches("connection: close").count(), 1, "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}
