//! The head of a response: judged, counted, and written anew for the client.

use std::time::Instant;

use http1::{Framing, Limits, Method, parse_response};

use super::{Forward, Served};
use crate::{
    clock::Millis,
    counters::FailureKind,
    instance::{candidate::Candidate, outlier::Outcome},
    message::{
        gateway_error::GatewayError,
        prefix::Prefix,
        response::{self, DownstreamResponse, GatewayHeaders},
    },
    proxy::{pass, record::Begun},
    upstream::{
        attempt::Attempt,
        breakage::Breakage,
        failure::{Failure, Kind},
    },
};

/// Interim responses that one request may have; more are an instance gone wild.
const INTERIM_MAX: usize = 16;

const RESPONSE_LIMITS: Limits = Limits { head_max_bytes: 64 * 1024, fields_max: 256, target_max_bytes: 0 };

/// What becomes of an attempt that has a response.
pub(super) enum Settled {
    Served(Served),
    Interim(Attempt),
    Failed(Attempt, Failure),
    Refused(GatewayError),
}

enum Read {
    Interim,
    Final { status: u16, answer: DownstreamResponse, is_stream: bool },
    Switched(Vec<u8>),
}

impl Forward<'_> {
    /// Reads the head of a response, and writes the one for the client.
    pub(super) fn settle(&mut self, mut attempt: Attempt) -> Settled {
        let now = Instant::now();
        match self.read(&mut attempt) {
            Ok(Read::Interim) => Settled::Interim(attempt),
            Ok(Read::Final { status, mut answer, is_stream }) => {
                let looked_ahead = self.look_ahead(&mut attempt, &mut answer);
                let has_come = match looked_ahead {
                    Ok(has_come) => has_come,
                    Err(breakage) => {
                        let failure = attempt.failure(Kind::Broken(breakage));
                        return Settled::Failed(attempt, failure);
                    }
                };
                let begun = Begun { status, is_judged: status >= 500 || is_stream || has_come };
                self.answered(&mut attempt, begun, now);
                if is_stream && !self.become_stream(&mut attempt) {
                    return Settled::Refused(GatewayError::StreamsFull);
                }
                Settled::Served(Served::Response { begun, answer, attempt })
            }
            Ok(Read::Switched(bytes)) => {
                self.answered(&mut attempt, Begun { status: 101, is_judged: true }, now);
                if !self.become_stream(&mut attempt) {
                    return Settled::Refused(GatewayError::StreamsFull);
                }
                Settled::Served(Served::Tunnel { bytes, attempt })
            }
            Err(kind) => {
                let failure = attempt.failure(kind);
                Settled::Failed(attempt, failure)
            }
        }
    }

    /// Whether the whole body has come, as far as can be known without waiting.
    fn look_ahead(&self, attempt: &mut Attempt, answer: &mut DownstreamResponse) -> Result<bool, Breakage> {
        let (Some(exchange), _) = attempt.exchange() else { return Ok(true) };
        if !exchange.has_come() {
            pass::look_ahead(answer, exchange, &self.request)?;
        }
        Ok(exchange.has_come())
    }

    /// An instance has answered; those that were asked before it have not.
    fn answered(&mut self, attempt: &mut Attempt, begun: Begun, now: Instant) {
        self.answered_at = Some(now);
        attempt.answered(Millis::of(now));
        let status = begun.status;
        let outcome = if begun.is_judged { Outcome::Answered { status } } else { Outcome::Begun };
        self.record(&attempt.candidate, outcome, (attempt.started, now), || format!("answered {status} again"));
        for loser in self.race.all().filter(|loser| loser.is_stalled && loser.is_at_a_silent_instance()) {
            let waited = now - loser.started;
            self.gateway.counters(self.service).failed(FailureKind::Timeout);
            let reason = || format!("has answered nothing for {waited:?}");
            self.record(&loser.candidate, Outcome::TimedOut, (loser.started, now), reason);
        }
    }

    /// A tunnel or an event stream waits for nothing: its place is another request's.
    fn become_stream(&self, attempt: &mut Attempt) -> bool {
        let has_become = attempt.become_stream();
        if has_become {
            self.gateway.queues.one_left(&self.service.name);
        }
        has_become
    }

    fn read(&mut self, attempt: &mut Attempt) -> Result<Read, Kind> {
        let (gateway, facts) = (self.gateway, &self.request.facts);
        let (exchange, candidate) = attempt.exchange();
        let Some(exchange) = exchange else { return Err(Kind::Malformed("it has no connection")) };
        let prefix = Prefix {
            request: &self.request,
            instance: &candidate.instance,
            own: self.service.prefix.as_bytes(),
            restore: self.policy.prefix.restore,
        };
        let cookie = self.cookie(candidate, &prefix);
        let mut scratch = gateway.scratch.borrow_mut();
        let method = if facts.is_head { Method::Head } else { Method::Get };
        let response = parse_response(exchange.head(), &mut scratch, &RESPONSE_LIMITS, &method).map_err(sentence)?;
        match response.status {
            101 => {
                let Some(protocol) = response.upgrade.filter(|_| facts.wants_upgrade) else {
                    return Err(Kind::Malformed("it switched protocols without being asked"));
                };
                let mut bytes = std::mem::take(&mut self.body.interim);
                response::switching(&mut bytes, &response, protocol, facts, prefix);
                exchange.end_interim();
                Ok(Read::Switched(bytes))
            }
            100..200 => {
                self.interims += 1;
                if self.interims > INTERIM_MAX {
                    return Err(Kind::Malformed("it sent interim responses without end"));
                }
                // The client's own expectation was met by us; HTTP/1.0 knows no interim responses.
                if response.status != 100 && !facts.is_http_1_0 {
                    response::interim(&mut self.body.interim, &response, prefix);
                }
                exchange.end_interim();
                Ok(Read::Interim)
            }
            status => {
                let is_last = self.downstream.is_draining() || !self.request.is_complete();
                let bytes = std::mem::take(&mut self.body.interim);
                let mut answer = gateway.clock.with_date(|date| {
                    let own = GatewayHeaders { date, is_last, cookie: cookie.as_deref(), prefix: Some(prefix) };
                    DownstreamResponse::new(bytes, &response, facts, own)
                });
                let is_stream = response.framing != Framing::Empty && response::is_event_stream(&response);
                let (framing, keep_alive) = (response.framing, response.keep_alive);
                exchange.begin_body(framing, keep_alive);
                pass::take_in(&mut answer, exchange).map_err(Kind::Broken)?;
                Ok(Read::Final { status, answer, is_stream: is_stream && !exchange.has_come() })
            }
        }
    }

    /// The cookie that keeps the client at this instance, unless it has it.
    fn cookie(&self, candidate: &Candidate, prefix: &Prefix<'_>) -> Option<Vec<u8>> {
        let sticky = self.policy.load_balancing.sticky.as_ref()?;
        if self.choice.sticky.as_deref() == Some(&candidate.cookie()[..]) {
            return None;
        }
        let value = String::from_utf8_lossy(candidate.cookie()).into_owned();
        let age = sticky.max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
        let (name, path) = (&sticky.cookie, String::from_utf8_lossy(prefix.full()));
        Some(format!("{name}={value}; Path={path}{age}; HttpOnly; SameSite=Lax").into_bytes())
    }
}

fn sentence(error: http1::Refusal) -> Kind {
    Kind::Malformed(match error {
        http1::Refusal::Malformed(what) => what,
        http1::Refusal::HeadTooLarge | http1::Refusal::TooManyFields => "the head is too large",
        http1::Refusal::UnsupportedCoding => "Transfer-Encoding: it must be \"chunked\", alone",
        http1::Refusal::UnsupportedVersion => "the version must be HTTP/1.1 or HTTP/1.0",
        _ => "the head is invalid",
    })
}
