//! How many retries a service may have: a share of its requests, so that a failing service is not also flooded.
//!
//! Over a window of ten seconds, retries are at most 20 % of the requests (`retries.budget_percent`), plus a small [`RESERVE`] without which a quiet
//! service could never retry (Linkerd and Envoy bound theirs alike). Per core and service. The request's way pays nothing
//! for it: only a retry reads the counter of requests, which is kept for the metrics anyway.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use discovery::ServiceName;

use crate::clock::Millis;

/// Retries per window that need no requests to pay for them.
const RESERVE: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// What one service has spent.
#[derive(Debug, Clone, Copy)]
struct Budget {
    start: Millis,
    /// The counter of requests when the window started.
    requests_at_start: u64,
    /// Requests of the window before, on its average rate.
    requests_before: u64,
    retries: u64,
}

/// What pays for retries, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Income {
    pub(crate) now: Millis,
    /// The counter of all requests so far.
    pub(crate) requests: u64,
    /// How many retries 100 requests pay for.
    pub(crate) percent: u32,
}

/// The budgets of one core: of services that have ever needed a retry, and are still known.
#[derive(Debug, Default)]
pub(crate) struct Budgets(RefCell<HashMap<ServiceName, Budget>>);

// === impl Budgets ===

impl Budgets {
    /// [`Budget::spend`] of the service `name`. `is_known` says which services there are; the others are forgotten when
    /// a new one comes, so that there are never more budgets than services.
    pub(crate) fn spend(&self, name: &ServiceName, income: Income, is_known: impl Fn(&ServiceName) -> bool) -> bool {
        let mut budgets = self.0.borrow_mut();
        if let Some(budget) = budgets.get_mut(name) {
            return budget.spend(income);
        }
        budgets.retain(|name, _| is_known(name));
        // Whatever was asked before the first retry has paid for it, too: an instance that freezes under load needs hundreds at once.
        budgets.entry(name.clone()).or_insert(Budget::new(Millis::START, 0)).spend(income)
    }
}

// === impl Budget ===

impl Budget {
    fn new(now: Millis, requests: u64) -> Self {
        Self { start: now, requests_at_start: requests, requests_before: 0, retries: 0 }
    }

    /// Whether one more retry is within the budget; if so it is spent.
    fn spend(&mut self, income: Income) -> bool {
        let Income { now, requests, percent } = income;
        let elapsed = now.since(self.start);
        let since_start = requests.saturating_sub(self.requests_at_start);
        if elapsed >= WINDOW {
            let windows = elapsed.as_secs_f64() / WINDOW.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an average of counters, good to a request or two"
            )]
            let before = (since_start as f64 / windows) as u64;
            *self = Self { requests_before: before, ..Self::new(now, requests) };
            return self.spend(income);
        }
        let earned = (since_start + self.requests_before) * u64::from(percent) / 100;
        let reserve = if percent == 0 { 0 } else { RESERVE };
        let allowed = self.retries < earned + reserve;
        self.retries += u64::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: Millis, requests: u64) -> Income {
        Income { now, requests, percent: 20 }
    }

    fn spend_all(budget: &mut Budget, now: Millis, requests: u64) -> usize {
        (0..100_000).take_while(|_| budget.spend(at(now, requests))).count()
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests_and_a_reserve() {
        let mut budget = Budget::new(Millis(0), 500);
        assert_eq!(spend_all(&mut budget, Millis(9000), 1500), 220);
        assert!(!budget.spend(at(Millis(9999), 1500)));
    }

    #[test]
    fn a_quiet_service_may_retry_again_in_the_next_window() {
        let mut budget = Budget::new(Millis(0), 0);
        assert_eq!(spend_all(&mut budget, Millis(0), 0), 20);
        assert_eq!(spend_all(&mut budget, Millis(10_000), 1), 20);
    }

    #[test]
    fn services_that_are_gone_have_no_budget() {
        let budgets = Budgets::default();
        for n in 0..1000 {
            let name: ServiceName = format!("s{n}").parse().unwrap();
            assert!(budgets.spend(&name, at(Millis(0), 0), |known| *known == name));
            assert!(budgets.0.borrow().len() <= 1);
        }
        let name: ServiceName = "s999".parse().unwrap();
        let spent = (0..100).take_while(|_| budgets.spend(&name, at(Millis(0), 0), |_| true)).count();
        assert_eq!(spent, 19, "the budget of a service that is there is kept");
    }

    #[test]
    fn the_first_retries_of_a_service_are_paid_for_by_what_was_asked_before() {
        let name: ServiceName = "mail".parse().unwrap();
        let first = |after, requests| {
            let budgets = Budgets::default();
            let now = Millis::START + Duration::from_secs(after);
            (0..100_000).take_while(|_| budgets.spend(&name, at(now, requests), |_| true)).count()
        };
        assert_eq!(first(5, 1000), 220);
        assert_eq!(first(1000, 100_000), 220, "a thousand in ten seconds, on average");
    }

    #[test]
    fn a_long_pause_is_no_credit() {
        let mut budget = Budget::new(Millis(0), 0);
        // A million requests, but over a hundred windows.
        assert_eq!(spend_all(&mut budget, Millis(1_000_000), 1_000_000), 2020);
    }
}
