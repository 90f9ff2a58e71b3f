//! Answers of our own, as a client gets them: always a problem (RFC 9457), always with the request id.

use std::borrow::Cow;

use http::StatusCode;
use http1::write;
use service_kit::{Problem, problem};

use crate::message::{
    cors::Preflight, gateway_error::GatewayError, request::RequestMeta, request_id::RequestId, response::FramingFields,
};

/// An answer of our own: what its head says, and its body.
#[derive(Debug)]
pub(crate) struct OwnResponse {
    status: StatusCode,
    fields: Vec<(Cow<'static, [u8]>, Vec<u8>)>,
    body: Vec<u8>,
}

// === impl OwnResponse ===

impl OwnResponse {
    /// A problem, for the client of that request.
    pub(crate) fn problem(refusal: &GatewayError, facts: &RequestMeta) -> Self {
        let problem = refusal.problem();
        let mut fields = vec![field("Content-Type", problem::MEDIA_TYPE)];
        if let Some(secs) = problem.retry_after_secs() {
            fields.push(field("Retry-After", secs.to_string()));
        }
        if *refusal == GatewayError::MethodNotAllowed {
            fields.push(field("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if let GatewayError::Denied(denial) = refusal {
            fields.extend(denial.fields.iter().map(|(name, value)| field(name, value.as_str())));
        }
        let body = with_id(&problem, &facts.id).into_bytes();
        Self { status: problem.status, fields, body }
    }

    /// JSON with status 200.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        let fields = vec![field("Content-Type", "application/json")];
        Self { status: StatusCode::OK, fields, body: value.to_string().into_bytes() }
    }

    /// A redirect of a browser.
    pub(crate) fn moved(location: Vec<u8>) -> Self {
        let fields = vec![field("Location", location), field("Vary", "Accept")];
        Self { status: StatusCode::TEMPORARY_REDIRECT, fields, body: Vec::new() }
    }

    /// The answer to a browser that asks for leave to send a request.
    pub(crate) fn preflight(Preflight(fields): Preflight) -> Self {
        let fields = fields.into_iter().map(|(name, value)| field(name, value)).collect();
        Self { status: StatusCode::NO_CONTENT, fields, body: Vec::new() }
    }

    /// What a service has answered in the gateway's place. Of `fields`, those that every answer of our own has are left
    /// out.
    pub(crate) fn of_service<'f>(
        status: StatusCode,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        body: Vec<u8>,
    ) -> Self {
        const OURS: [&[u8]; 3] = [b"content-length", b"date", b"x-request-id"];
        let is_theirs = |(name, _): &(&[u8], &[u8])| !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
        let owned = |(name, value): (&[u8], &[u8])| (Cow::Owned(name.to_vec()), value.to_vec());
        Self { status, fields: fields.filter(is_theirs).map(owned).collect(), body }
    }

    /// Writes its head, for the client of that request.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>, facts: &RequestMeta, date: &[u8], framing: FramingFields) {
        let reason = self.status.canonical_reason().unwrap_or("Error");
        write::status_line(out, self.status.as_u16(), reason.as_bytes());
        for (name, value) in &self.fields {
            write::field(out, name, value);
        }
        // RFC 9110, section 8.6.
        if self.status != StatusCode::NO_CONTENT {
            write::field_number(out, b"Content-Length", self.body.len() as u64);
        }
        write::field(out, b"X-Request-Id", facts.id.as_bytes());
        write::field(out, b"Date", date);
        facts.cors.write(out);
        framing.end(out);
    }

    /// Its body, which the response to a HEAD has not.
    pub(crate) fn body(&self, facts: &RequestMeta) -> &[u8] {
        if facts.is_head { b"" } else { &self.body }
    }
}

fn field(name: &'static str, value: impl Into<Vec<u8>>) -> (Cow<'static, [u8]>, Vec<u8>) {
    (Cow::Borrowed(name.as_bytes()), value.into())
}

/// A refusal as bytes, for a connection that no longer speaks HTTP with us, or never did. Nothing follows it.
pub(crate) fn error_response(refusal: &GatewayError, date: &[u8]) -> Vec<u8> {
    let (facts, mut out) = (RequestMeta::unknown(), Vec::new());
    let response = OwnResponse::problem(refusal, &facts);
    response.write_head(&mut out, &facts, date, FramingFields { is_chunked: false, connection: Some(b"close") });
    out.extend_from_slice(response.body(&facts));
    out
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

    fn refuse(refusal: &GatewayError, facts: &RequestMeta) -> String {
        let (response, mut out) = (OwnResponse::problem(refusal, facts), Vec::new());
        response.write_head(&mut out, facts, DATE, FramingFields { is_chunked: false, connection: None });
        out.extend_from_slice(response.body(facts));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_refusal_is_a_problem_with_the_request_id_in_header_and_body() {
        let facts = RequestMeta::unknown();
        let text = refuse(&GatewayError::NoInstance("mail is down".to_owned()), &facts);
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
        let text = refuse(&GatewayError::Loop, &facts);
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length: 0"), "{text}");
    }
}
