//! The answers that the gateway gives itself, and the one table from reason to status and code.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use service_kit::Problem;

use crate::message::denial::Denial;

/// Why a request gets its answer from the gateway and not from an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GatewayError {
    /// Two parsers could read this request differently, or none can: what is wrong with it.
    Malformed(Cow<'static, str>),
    /// CONNECT and TRACE are for proxies that a client has chosen (RFC 9110, sections 9.3.6 and 9.3.8).
    MethodNotAllowed,
    /// `Expect` with something else than `100-continue`.
    ExpectationFailed,
    TargetTooLong {
        max_bytes: usize,
    },
    HeaderTooLarge {
        max_bytes: usize,
        fields_max: usize,
    },
    /// A `Transfer-Encoding` that is not `chunked`.
    CodingNotImplemented,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    VersionNotSupported,
    /// The head did not arrive in time.
    HeaderTimeout(Duration),
    BodyTooLarge {
        max_bytes: u64,
    },
    /// The body stopped arriving.
    BodyTimeout(Duration),
    /// The body drips.
    BodyTooSlow {
        min_bytes_per_s: u64,
    },
    /// The body's framing is broken, or the client left; it may not be there to read this.
    BodyBroken,
    /// The first segment cannot be the name of a service.
    NoServiceName(String),
    /// Passed through too many gateways.
    Loop,
    /// The table is from nowhere: nothing is known.
    DiscoveryUnknown(String),
    /// No instance can be picked; the sentence says why.
    NoInstance(String),
    /// Instances were picked, and none could be reached; nothing was sent.
    Unreachable(String),
    /// The instance broke the connection before it answered.
    UpstreamClosed(String),
    /// The instance answered something that is not HTTP/1.1.
    UpstreamMalformed(String),
    /// The instance did not answer in time.
    UpstreamTimeout(String),
    /// Too many connections.
    Overloaded(&'static str),
    /// The instances have as much to do as they may have. The connection goes on: a new one would be more work for both
    /// sides.
    Busy(&'static str),
    /// The instance has as many tunnels and event streams as it may have.
    StreamsFull,
    /// The service asks for something that the request does not have.
    Denied(Box<Denial>),
}

/// When to ask again: an instance that comes back is known within a heartbeat.
const RETRY_AFTER: Duration = Duration::from_secs(2);

// === impl GatewayError ===

impl GatewayError {
    /// This host has nothing left for another connection.
    pub(crate) fn exhausted() -> Self {
        Self::Overloaded("the gateway's host has no file descriptor, port or memory left for a connection")
    }

    /// Status, code and sentence.
    pub(crate) fn problem(&self) -> Problem {
        let bad_request = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "malformed_request", detail);
        let bad_gateway = |code, detail: &str| Problem::new(StatusCode::BAD_GATEWAY, code, detail);
        let unavailable = |code, detail: &str| Problem::unavailable(code, detail, RETRY_AFTER);
        match self {
            Self::Malformed(what) => bad_request(what),
            Self::BodyBroken => bad_request("the request's body broke off or is not framed as its header says"),
            Self::MethodNotAllowed => {
                let detail = "CONNECT and TRACE are not for gateways; the Allow header lists usual methods that are";
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            }
            Self::ExpectationFailed => {
                let detail = "the only expectation that can be met is Expect: 100-continue";
                Problem::new(StatusCode::EXPECTATION_FAILED, "expectation_failed", detail)
            }
            Self::TargetTooLong { max_bytes } => {
                let detail = format!("the request target is longer than {max_bytes} bytes; shorten path or query");
                Problem::new(StatusCode::URI_TOO_LONG, "target_too_long", detail)
            }
            Self::HeaderTooLarge { max_bytes, fields_max } => {
                let detail = format!("the header is larger than {max_bytes} bytes or {fields_max} fields; send less");
                Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large", detail)
            }
            Self::CodingNotImplemented => {
                let detail = "Transfer-Encoding: it must be \"chunked\", and nothing else";
                Problem::new(StatusCode::NOT_IMPLEMENTED, "coding_not_implemented", detail)
            }
            Self::VersionNotSupported => {
                let detail = "the version of HTTP must be 1.1 or 1.0";
                Problem::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version_not_supported", detail)
            }
            Self::HeaderTimeout(limit) => {
                let detail = format!("the request's head was not complete after {limit:?}; send it at once");
                Problem::new(StatusCode::REQUEST_TIMEOUT, "header_timeout", detail)
            }
            Self::BodyTooLarge { max_bytes } => {
                let detail = format!("the body is larger than {max_bytes} bytes; send less");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            }
            Self::BodyTimeout(limit) => {
                let detail = format!("nothing of the body arrived for {limit:?}; send it without pauses");
                Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
            }
            Self::BodyTooSlow { min_bytes_per_s } => {
                let detail = format!("the body arrived slower than {min_bytes_per_s} bytes a second; send it faster");
                Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
            }
            Self::NoServiceName(detail) => Problem::new(StatusCode::BAD_REQUEST, "no_service_name", detail.as_str()),
            Self::Loop => {
                let detail = "the request came through too many gateways; an instance's address leads back to one";
                Problem::new(StatusCode::LOOP_DETECTED, "loop_detected", detail)
            }
            Self::DiscoveryUnknown(detail) => unavailable("discovery_unknown", detail),
            Self::NoInstance(detail) => unavailable("no_instance", detail),
            Self::Unreachable(detail) => unavailable("instance_unreachable", detail),
            Self::Overloaded(detail) | Self::Busy(detail) => unavailable("overloaded", detail),
            Self::StreamsFull => {
                unavailable("overloaded", "the instance has as many tunnels and event streams as it may have")
            }
            Self::Denied(denial) => denial.problem(),
            Self::UpstreamClosed(detail) => bad_gateway("upstream_closed", detail),
            Self::UpstreamMalformed(detail) => bad_gateway("upstream_malformed", detail),
            Self::UpstreamTimeout(detail) => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", detail.as_str())
            }
        }
    }

    /// Whether the connection must end after this answer: its framing cannot be trusted, or a body is still to come
    /// that is not wanted.
    pub(crate) fn closes(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::MethodNotAllowed
            | Self::ExpectationFailed
            | Self::TargetTooLong { .. }
            | Self::HeaderTooLarge { .. }
            | Self::CodingNotImplemented
            | Self::VersionNotSupported
            | Self::BodyTooSlow { .. }
            | Self::HeaderTimeout(_)
            | Self::BodyTooLarge { .. }
            | Self::BodyTimeout(_)
            | Self::BodyBroken
            | Self::Overloaded(_) => true,
            Self::NoServiceName(_)
            | Self::Loop
            | Self::DiscoveryUnknown(_)
            | Self::NoInstance(_)
            | Self::Unreachable(_)
            | Self::UpstreamClosed(_)
            | Self::UpstreamMalformed(_)
            | Self::UpstreamTimeout(_)
            | Self::StreamsFull
            | Self::Denied(_)
            | Self::Busy(_) => false,
        }
    }
}
