//! How much of a service one client may have: its rate limits, and what it has under way.
//!
//! What is counted by where the client is, or by a field, is taken before its credentials are judged, so that guesses
//! count, too; what is counted by who it is, after. Each gateway counts for itself.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use discovery::policy::{LimitKey, Policy, RateLimit};
use http::StatusCode;
use service_kit::connections::ClientNetwork;

use crate::{
    access::{
        asked::Asked,
        identity::Identity,
        in_flight::{InFlight, Place},
        rate_limiter::RateLimiter,
    },
    message::denial::Denial,
};

/// Where the clock of the limits begins; the first request may have come just before.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Those of one service.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    rates: Vec<Rate>,
    in_flight: Option<Arc<InFlight>>,
}

#[derive(Debug)]
struct Rate {
    rule: RateLimit,
    limiter: Arc<RateLimiter>,
}

/// What a request is counted by.
#[derive(Debug, Hash)]
enum Key<'a> {
    Client(ClientNetwork),
    Identity(&'a str, &'a str),
    Claim(&'a str),
    Header(&'a [u8]),
}

// === impl Limits ===

impl Limits {
    /// Those of `policy`; counts stay where the rule is the same as `before`.
    pub(crate) fn new(policy: &Policy, before: Option<&Self>) -> Self {
        let rate = |rule: &RateLimit| {
            let same = before.and_then(|before| before.rates.iter().find(|rate| rate.rule == *rule));
            let made = || Arc::new(RateLimiter::new(rule.requests, rule.window, rule.burst.unwrap_or(rule.requests)));
            Rate { rule: rule.clone(), limiter: same.map_or_else(made, |same| Arc::clone(&same.limiter)) }
        };
        let before = before.and_then(|before| before.in_flight.as_ref());
        let in_flight = |max| {
            let same = before.filter(|before| before.max() == max).cloned();
            same.unwrap_or_else(|| Arc::new(InFlight::new(max)))
        };
        Self {
            rates: policy.rate_limit.iter().map(rate).collect(),
            in_flight: policy.in_flight_per_client.map(in_flight),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.in_flight.is_none()
    }

    /// The claims that are counted by.
    pub(crate) fn claims(policy: &Policy) -> Vec<Arc<str>> {
        let claim = |rule: &RateLimit| match &rule.key {
            LimitKey::Claim(claim) => Some(claim.as_str().into()),
            LimitKey::Client | LimitKey::Identity | LimitKey::Header(_) => None,
        };
        policy.rate_limit.iter().filter_map(claim).collect()
    }

    /// Counts a request of which nothing is known but where it comes from and what it says.
    ///
    /// # Errors
    ///
    /// There were too many.
    pub(crate) fn take_before(
        &self,
        asked: &Asked<'_>,
        client: ClientNetwork,
        now: Instant,
    ) -> Result<(), Box<Denial>> {
        for rate in &self.rates {
            match &rate.rule.key {
                LimitKey::Client => rate.take(&Key::Client(client), now)?,
                LimitKey::Header(name) => {
                    rate.take(&asked.values(name).next().map_or(Key::Client(client), Key::Header), now)?;
                }
                LimitKey::Identity | LimitKey::Claim(_) => {}
            }
        }
        Ok(())
    }

    /// Takes a place for it.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(crate) fn enter(&self, client: ClientNetwork) -> Result<Option<Place>, Box<Denial>> {
        let Some(in_flight) = &self.in_flight else { return Ok(None) };
        in_flight.enter(client).map(Some).ok_or_else(|| {
            let detail = format!("you have {} requests under way at this service; wait for answers", in_flight.max());
            let denial = Denial::new(StatusCode::TOO_MANY_REQUESTS, "too_many_in_flight", detail);
            Box::new(denial.after(Duration::from_secs(1)))
        })
    }

    /// Counts it by who the client is.
    ///
    /// # Errors
    ///
    /// There were too many.
    pub(crate) fn take_after(
        &self,
        identity: Option<&Identity>,
        client: ClientNetwork,
        now: Instant,
    ) -> Result<(), Box<Denial>> {
        for rate in &self.rates {
            match &rate.rule.key {
                LimitKey::Client | LimitKey::Header(_) => {}
                LimitKey::Identity => {
                    // Those who have no name are not one.
                    let named = identity.filter(|identity| !identity.subject.is_empty());
                    let key = named.map(|identity| Key::Identity(identity.method, &identity.subject));
                    rate.take(&key.unwrap_or(Key::Client(client)), now)?;
                }
                LimitKey::Claim(name) => {
                    let claim =
                        identity.and_then(|identity| identity.claims.iter().find(|(claim, _)| **claim == **name));
                    rate.take(&claim.map_or(Key::Client(client), |(_, value)| Key::Claim(value)), now)?;
                }
            }
        }
        Ok(())
    }
}

// === impl Rate ===

impl Rate {
    fn take(&self, key: &Key<'_>, now: Instant) -> Result<(), Box<Denial>> {
        let now_ns = u64::try_from(now.saturating_duration_since(*START).as_nanos()).unwrap_or(u64::MAX).max(1);
        self.limiter.take(key, now_ns).map_err(|wait| self.exceeded(wait))
    }

    /// 429 with what is allowed and when it is allowed again (draft-ietf-httpapi-ratelimit-headers-10).
    fn exceeded(&self, wait: Duration) -> Box<Denial> {
        let RateLimit { key, requests, window, .. } = &self.rule;
        let name = key.as_str();
        let detail = format!(
            "more than {requests} requests in {} for one {name} at this gateway; wait",
            humantime::format_duration(*window)
        );
        let secs = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let window = if window.subsec_nanos() == 0 { format!(";w={}", window.as_secs()) } else { String::new() };
        let denial = Denial::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).after(wait);
        let denial = denial.with("RateLimit-Policy", format!("\"{name}\";q={requests}{window}"));
        Box::new(denial.with("RateLimit", format!("\"{name}\";r=0;t={secs}")))
    }
}
