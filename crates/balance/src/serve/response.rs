//! The head of a response: judged, counted, and written anew for the client.

use std::time::Instant;

use http1::{Limits, Method, parse_response};

use super::{Served, Serving};
use crate::{
    answer::{self, Answer, Own},
    attempt::{Attempt, Failure, Kind},
    outlier::Outcome,
    per_core::FailureKind,
    prefix::Prefix,
    routing_table::Candidate,
};

/// Interim responses that one request may have; more are an instance gone wild.
const INTERIM_MAX: usize = 16;

const RESPONSE_LIMITS: Limits = Limits { head_max_bytes: 64 * 1024, fields_max: 256, target_max_bytes: 0 };

/// What becomes of an attempt that has a response.
pub(super) enum Settled {
    Served(Served),
    Interim(Attempt),
    Failed(Attempt, Failure),
}

enum Read {
    Interim,
    Final(u16, Answer),
    Switched(Vec<u8>),
}

impl Serving<'_> {
    /// Reads the head of a response, and writes the one for the client.
    pub(super) fn settle(&mut self, mut attempt: Attempt, head_bytes: usize) -> Settled {
        let now = Instant::now();
        match self.read(&mut attempt, head_bytes) {
            Ok(Read::Interim) => {
                attempt.search_again();
                Settled::Interim(attempt)
            }
            Ok(Read::Final(status, answer)) => {
                self.answered(&attempt, status, now);
                Settled::Served(Served::Response { status, answer, attempt })
            }
            Ok(Read::Switched(words)) => {
                self.answered(&attempt, 101, now);
                Settled::Served(Served::Tunnel { words, attempt })
            }
            Err(what) => {
                let failure = attempt.failure(Kind::Malformed(what));
                Settled::Failed(attempt, failure)
            }
        }
    }

    /// An instance has answered; those that were asked before it have not.
    fn answered(&mut self, attempt: &Attempt, status: u16, now: Instant) {
        self.answered_at = Some(now);
        let outcome = Outcome::Answered { status };
        self.record(&attempt.candidate, outcome, (attempt.started, now), || format!("answered {status} again"));
        let stall = self.patience().stall;
        for loser in self.race.all().filter(|loser| loser.is_stalled && !loser.instance_lives(stall)) {
            let waited = now - loser.started;
            self.gateway.counters(self.service).failed(FailureKind::Timeout);
            let reason = || format!("has answered nothing for {waited:?}");
            self.record(&loser.candidate, Outcome::TimedOut, (loser.started, now), reason);
        }
    }

    fn read(&mut self, attempt: &mut Attempt, head_bytes: usize) -> Result<Read, &'static str> {
        let (gateway, facts) = (self.gateway, &self.request.facts);
        let (upstream, candidate) = attempt.upstream_of();
        let Some(upstream) = upstream else { return Err("it has no connection") };
        let prefix = Prefix::new(&self.request, candidate, self.service);
        let cookie = self.cookie(candidate, &prefix);
        let mut scratch = gateway.scratch.borrow_mut();
        let head = &upstream.wire.unread()[..head_bytes];
        let method = if facts.is_head { Method::Head } else { Method::Get };
        let response = parse_response(head, &mut scratch, &RESPONSE_LIMITS, &method).map_err(sentence)?;
        let read = match response.status {
            101 => {
                let Some(protocol) = response.upgrade.filter(|_| facts.wants_upgrade) else {
                    return Err("it switched protocols without being asked");
                };
                let mut words = std::mem::take(&mut self.body.interim);
                answer::switching(&mut words, &response, protocol, facts, prefix);
                Read::Switched(words)
            }
            100..200 => {
                self.interims += 1;
                if self.interims > INTERIM_MAX {
                    return Err("it sent interim responses without end");
                }
                // The client's own expectation was met by us; HTTP/1.0 knows no interim responses.
                if response.status != 100 && !facts.is_http_1_0 {
                    answer::interim(&mut self.body.interim, &response, prefix);
                }
                Read::Interim
            }
            status => {
                let is_last = self.downstream.is_draining() || !self.request.is_complete();
                let bytes = std::mem::take(&mut self.body.interim);
                let answer = gateway.clock.with_date(|date| {
                    let own = Own { date, is_last, cookie: cookie.as_deref(), prefix: Some(prefix) };
                    Answer::new(bytes, &response, facts, own)
                });
                Read::Final(status, answer)
            }
        };
        upstream.wire.consume(head_bytes);
        Ok(read)
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

fn sentence(error: http1::Refusal) -> &'static str {
    match error {
        http1::Refusal::Malformed(what) => what,
        http1::Refusal::HeadTooLarge | http1::Refusal::TooManyFields => "the head is too large",
        http1::Refusal::UnsupportedCoding => "Transfer-Encoding: it must be \"chunked\", alone",
        http1::Refusal::UnsupportedVersion => "the version must be HTTP/1.1 or HTTP/1.0",
        _ => "the head makes no sense",
    }
}
