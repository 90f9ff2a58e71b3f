//! The head of a response: judged, counted, and written anew for the client.

use std::time::Instant;

use http1::{Framing, Method};

use super::{Forward, Served};
use crate::{
    clock::Millis,
    counters::FailureKind,
    downstream::exchange::DownstreamExchange,
    instance::{candidate::Candidate, outlier::Outcome},
    message::{
        gateway_error::GatewayError,
        prefix::Prefix,
        response::{self, BodyLength, GatewayHeaders},
    },
    proxy::{pass, record::Begun},
    upstream::{
        attempt::Attempt,
        breakage::Breakage,
        failure::{Failure, Kind},
        http1::RESPONSE_LIMITS,
    },
};

/// Interim responses that one request may have; more are an instance gone wild.
const INTERIM_MAX: usize = 16;

/// What becomes of an attempt that has a response.
pub(super) enum Settled {
    Served(Served),
    Interim(Box<Attempt>),
    Failed(Box<Attempt>, Failure),
    Refused(GatewayError),
}

enum Read {
    Interim,
    Final { status: u16, is_stream: bool },
    Switched,
}

impl Forward<'_> {
    /// Reads the head of a response, and writes the one for the client.
    pub(super) fn settle<D: DownstreamExchange>(
        &mut self,
        client: &mut D,
        mut attempt: Box<Attempt>,
        now: Instant,
    ) -> Settled {
        let read = self.read(client, &mut attempt).and_then(|read| {
            self.look_ahead(client, &mut attempt, &read).map_err(Kind::Broken)?;
            Ok(read)
        });
        let (begun, is_stream) = match read {
            Ok(Read::Interim) => return Settled::Interim(attempt),
            Ok(Read::Final { status, is_stream }) => {
                let has_come = attempt.exchange().0.is_some_and(|exchange| exchange.has_come());
                (Begun { status, is_judged: status >= 500 || is_stream || has_come }, is_stream)
            }
            Ok(Read::Switched) => (Begun { status: 101, is_judged: true }, true),
            Err(kind) => {
                client.abandon();
                let failure = attempt.failure(kind);
                return Settled::Failed(attempt, failure);
            }
        };
        self.answered(&mut attempt, begun, now);
        if is_stream && !self.become_stream(&mut attempt) {
            client.abandon();
            return Settled::Refused(GatewayError::StreamsFull);
        }
        Settled::Served(match begun.status {
            101 => Served::Tunnel { attempt },
            _ => Served::Response { begun, attempt },
        })
    }

    /// Reads on behind the head of a final response, as far as nothing has to be waited for.
    fn look_ahead<D: DownstreamExchange>(
        &self,
        client: &mut D,
        attempt: &mut Attempt,
        read: &Read,
    ) -> Result<(), Breakage> {
        match (read, attempt.exchange().0) {
            (Read::Final { .. }, Some(exchange)) if !exchange.has_come() => {
                pass::look_ahead(client, exchange, &self.upload.request)
            }
            _ => Ok(()),
        }
    }

    /// An instance has answered; those that were asked before it have not.
    fn answered(&mut self, attempt: &mut Attempt, begun: Begun, now: Instant) {
        let now_ms = Millis::of(now);
        attempt.answered(now_ms);
        let status = begun.status;
        let outcome = if begun.is_judged { Outcome::Answered { status } } else { Outcome::Begun };
        self.record(&attempt.candidate, outcome, now - attempt.started, now_ms, || format!("answered {status} again"));
        for loser in self.attempts.all().filter(|loser| loser.is_stalled && loser.is_at_a_silent_instance()) {
            let waited = now - loser.started;
            self.context.counters().failed(FailureKind::Timeout);
            let reason = || format!("has answered nothing for {waited:?}");
            self.record(&loser.candidate, Outcome::TimedOut, waited, now_ms, reason);
        }
    }

    /// A tunnel or an event stream waits for nothing: its place is another request's.
    fn become_stream(&self, attempt: &mut Attempt) -> bool {
        let has_become = attempt.become_stream();
        if has_become {
            self.context.gateway.queues.one_left(&self.context.service.name);
        }
        has_become
    }

    fn read<D: DownstreamExchange>(&mut self, client: &mut D, attempt: &mut Attempt) -> Result<Read, Kind> {
        let (gateway, request) = (self.context.gateway, &self.upload.request);
        let facts = &request.facts;
        let (exchange, candidate) = attempt.exchange();
        let Some(exchange) = exchange else { return Err(Kind::Malformed("it has no connection")) };
        let prefix = Prefix {
            request,
            instance: &candidate.instance,
            own: self.context.service.prefix.as_bytes(),
            restore: self.context.policy.prefix.restore,
        };
        let cookie = self.cookie(candidate, &prefix);
        let method = if facts.is_head { Method::Head } else { Method::Get };
        let head = exchange.head().ok_or(Kind::Malformed("it has no head"))?;
        let response = head.response(&RESPONSE_LIMITS, &method).map_err(sentence)?;
        match response.status {
            101 => {
                let Some(protocol) = response.upgrade.filter(|_| facts.wants_upgrade) else {
                    return Err(Kind::Malformed("it switched protocols without being asked"));
                };
                client.switch(|out| response::switching(out, &response, protocol, facts, prefix));
                exchange.end_interim();
                Ok(Read::Switched)
            }
            100..200 => {
                self.interims += 1;
                if self.interims > INTERIM_MAX {
                    return Err(Kind::Malformed("it sent interim responses without end"));
                }
                // The client's own expectation was met by us.
                if response.status != 100 {
                    client.interim(|out| response::interim(out, &response, prefix));
                }
                exchange.end_interim();
                Ok(Read::Interim)
            }
            status => {
                let is_last = self.context.timers.is_draining() || !request.is_complete();
                gateway.clock.with_date(|date| {
                    let own = GatewayHeaders { date, cookie: cookie.as_deref(), prefix: Some(prefix) };
                    let length = BodyLength::of(response.framing);
                    client.respond(length, is_last, |out, framing| response::head(out, &response, facts, own, framing));
                });
                let is_stream = response.framing != Framing::Empty && response::is_event_stream(&response);
                let (framing, keep_alive) = (response.framing, response.keep_alive);
                exchange.begin_body(framing, keep_alive);
                pass::take_in(client, exchange).map_err(Kind::Broken)?;
                Ok(Read::Final { status, is_stream: is_stream && !exchange.has_come() })
            }
        }
    }

    /// The cookie that keeps the client at this instance, unless it has it.
    fn cookie(&self, candidate: &Candidate, prefix: &Prefix<'_>) -> Option<Vec<u8>> {
        let sticky = self.context.policy.load_balancing.sticky.as_ref()?;
        if self.affinity.sticky.as_deref() == Some(&candidate.cookie()[..]) {
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
