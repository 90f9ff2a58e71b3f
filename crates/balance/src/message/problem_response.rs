//! Answers of our own, as a client gets them: always a problem (RFC 9457), always with the request id.

use http1::write;
use service_kit::{Problem, problem};

use crate::message::{cors::Preflight, refusal::GatewayError, request::RequestMeta, request_id::RequestId, response};

/// Writes a refusal of the request that these are the facts of.
pub(crate) fn refuse(out: &mut Vec<u8>, refusal: &GatewayError, facts: &RequestMeta, is_last: bool, date: &[u8]) {
    let problem = refusal.problem();
    let (status, json) = (problem.status.as_u16(), with_id(&problem, &facts.id));
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    if let Some(secs) = problem.retry_after_secs() {
        fields.push((b"Retry-After", secs.to_string().into_bytes()));
    }
    if *refusal == GatewayError::MethodNotAllowed {
        fields.push((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_vec()));
    }
    let reason = problem.status.canonical_reason().unwrap_or("Error");
    write::status_line(out, status, reason.as_bytes());
    write::field(out, b"Content-Type", problem::MEDIA_TYPE.as_bytes());
    for (name, value) in fields {
        write::field(out, name, &value);
    }
    if let GatewayError::Denied(denial) = refusal {
        for (name, value) in &denial.fields {
            write::field(out, name.as_bytes(), value.as_bytes());
        }
    }
    finish(out, json.as_bytes(), facts, is_last, date);
}

/// Writes JSON with status 200.
pub(crate) fn json(out: &mut Vec<u8>, value: &serde_json::Value, facts: &RequestMeta, is_last: bool, date: &[u8]) {
    write::status_line(out, 200, b"OK");
    write::field(out, b"Content-Type", b"application/json");
    finish(out, value.to_string().as_bytes(), facts, is_last, date);
}

/// A refusal as bytes, for a connection that no longer speaks HTTP with us, or never did. Nothing follows it.
pub(crate) fn error_response(refusal: &GatewayError, date: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    refuse(&mut out, refusal, &RequestMeta::unknown(), true, date);
    out
}

/// Writes a redirect of a browser.
pub(crate) fn moved(out: &mut Vec<u8>, location: &[u8], facts: &RequestMeta, is_last: bool, date: &[u8]) {
    write::status_line(out, 307, b"Temporary Redirect");
    write::field(out, b"Location", location);
    write::field(out, b"Vary", b"Accept");
    finish(out, b"", facts, is_last, date);
}

/// Writes the answer to a browser that asks for leave to send a request.
pub(crate) fn preflight(out: &mut Vec<u8>, preflight: &Preflight, facts: &RequestMeta, is_last: bool, date: &[u8]) {
    write::status_line(out, 204, b"No Content");
    preflight.write(out);
    write::field(out, b"X-Request-Id", facts.id.as_bytes());
    write::field(out, b"Date", date);
    response::connection(out, is_last, facts);
    write::end(out);
}

fn finish(out: &mut Vec<u8>, body: &[u8], facts: &RequestMeta, is_last: bool, date: &[u8]) {
    write::field_number(out, b"Content-Length", body.len() as u64);
    write::field(out, b"X-Request-Id", facts.id.as_bytes());
    write::field(out, b"Date", date);
    facts.cors.write(out);
    response::connection(out, is_last, facts);
    write::end(out);
    if !facts.is_head {
        out.extend_from_slice(body);
    }
}

/// The problem's JSON with the request id, which only the gateway knows.
fn with_id(problem: &Problem, id: &RequestId) -> String {
    let mut json = problem.to_json();
    if json.pop() == Some('}') {
        // The id has no character that JSON would escape.
        json.push_str(&format!(",\"request_id\":\"{}\"}}", id.as_str()));
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8] = b"Sat, 21 Nov 2026 12:00:00 GMT";

    #[test]
    fn a_refusal_is_a_problem_with_the_request_id_in_header_and_body() {
        let facts = RequestMeta::unknown();
        let mut out = Vec::new();
        refuse(&mut out, &GatewayError::NoInstance("mail is down".to_owned()), &facts, false, DATE);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        let id = format!("X-Request-Id: {}", facts.id.as_str());
        for line in ["Content-Type: application/problem+json", "Retry-After: 2", &id] {
            assert!(head.contains(line), "{line} in {head}");
        }
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (body["code"].as_str(), body["request_id"].as_str()),
            (Some("no_instance"), Some(facts.id.as_str()))
        );
        assert_eq!(body["detail"], "mail is down");
    }

    #[test]
    fn last_words_are_a_whole_response_that_ends_the_connection() {
        let text = String::from_utf8(error_response(&GatewayError::MethodNotAllowed, DATE)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n") && head.contains("Allow: GET"), "{head}");
        assert_eq!(head.matches("Connection: close").count(), 1, "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    }

    #[test]
    fn the_answer_to_a_head_has_its_length_and_not_its_body() {
        let facts = RequestMeta { is_head: true, ..RequestMeta::unknown() };
        let mut out = Vec::new();
        refuse(&mut out, &GatewayError::Loop, &facts, false, DATE);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length: 0"), "{text}");
    }
}
