//! Which of the due deliveries go now, and which of them together.
//!
//! The recipients of one message at one domain get it in one SMTP transaction: one text for all of them, as RFC 5321,
//! section 4.5.4.1, asks for. Such a transaction counts as one message, for `--sends-max` as for what its domain gets.
//!
//! A recipient that has cost some attempts goes alone: a server that closes the connection (421) because of one of
//! them, each time, would keep the message from all others.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::locked;
use crate::outbox::{
    store::{
        claim::{Choice, RECIPIENTS_MAX},
        entry::{Candidate, Claimed},
    },
    workers::limiter::Limiter,
};

/// After so many attempts a recipient goes alone.
const ALONE_AFTER: i64 = 3;

/// Chooses among the rows of one claim.
pub(super) struct Chooser {
    /// What this instance is sending already.
    pub(super) under_way: Arc<Mutex<HashSet<i64>>>,
    pub(super) now: Instant,
    pub(super) begun: Begun,
    /// Recipients of each message and domain.
    pub(super) sizes: HashMap<(String, String), usize>,
}

/// What one claim has acquired of the limiter: the domain of each transaction that it has begun.
///
/// The claim may still be choosing, on a thread, when its caller has been told that it failed. Nothing is acquired from
/// then on, because nothing would release it.
#[derive(Clone)]
pub(super) struct Begun {
    limiter: Arc<Mutex<Limiter>>,
    /// `None` once the claim has failed. Locked before the limiter.
    domains: Arc<Mutex<Option<Vec<String>>>>,
}

// === impl Begun ===

impl Begun {
    pub(super) fn new(limiter: Arc<Mutex<Limiter>>) -> Self {
        Self { limiter, domains: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// Acquires what one message to `domain` needs; `false` when the domain is at a limit, or the claim has failed.
    fn acquire(&self, domain: &str, now: Instant) -> bool {
        let mut domains = locked(&self.domains);
        let Some(domains) = domains.as_mut() else { return false };
        let is_acquired = locked(&self.limiter).acquire(domain, now);
        if is_acquired {
            domains.push(domain.to_owned());
        }
        is_acquired
    }

    /// The claim has failed: releases what it has acquired.
    pub(super) fn give_back(&self) {
        let domains = locked(&self.domains).take();
        for domain in domains.unwrap_or_default() {
            locked(&self.limiter).release(&domain);
        }
    }
}

// === impl Chooser ===

impl Chooser {
    pub(super) fn choose(&mut self, candidate: &Candidate, has_room: bool) -> Choice {
        if locked(&self.under_way).contains(&candidate.delivery) {
            return Choice::Pass;
        }
        let goes_alone = candidate.attempts >= ALONE_AFTER;
        let size = self.sizes.entry((candidate.message.clone(), candidate.domain.clone())).or_default();
        if !goes_alone && !size.is_multiple_of(RECIPIENTS_MAX) {
            *size += 1;
            return Choice::Join;
        }
        if !has_room || !self.begun.acquire(&candidate.domain, self.now) {
            return Choice::Pass;
        }
        *size += usize::from(!goes_alone);
        Choice::Begin
    }
}

/// The deliveries of each transaction, in the order in which they were claimed.
pub(super) fn transactions(claimed: Vec<Claimed>) -> Vec<Vec<Claimed>> {
    let mut transactions: Vec<Vec<Claimed>> = Vec::new();
    let mut last: HashMap<(String, String), usize> = HashMap::new();
    for delivery in claimed {
        if i64::from(delivery.attempts) >= ALONE_AFTER {
            transactions.push(vec![delivery]);
            continue;
        }
        let key = (delivery.message_id.clone(), delivery.domain.clone());
        match last.get(&key).and_then(|index| transactions.get_mut(*index)) {
            Some(together) if together.len() < RECIPIENTS_MAX => together.push(delivery),
            _ => {
                last.insert(key, transactions.len());
                transactions.push(vec![delivery]);
            }
        }
    }
    transactions
}

#[cfg(test)]
mod tests {
    use service_kit::time::UnixMillis;

    use super::*;
    use crate::outbox::{store::entry::Stored, workers::limiter::DomainLimits};

    fn claimed(delivery: i64, message_id: &str, domain: &str) -> Claimed {
        Claimed {
            delivery,
            recipient: format!("a{delivery}@{domain}"),
            domain: domain.to_owned(),
            attempts: 0,
            expires: UnixMillis(0),
            message_id: message_id.to_owned(),
            sender: "us@example.com".to_owned(),
            content: Arc::new(Stored::new(message_id, b"x".to_vec())),
        }
    }

    fn deliveries(transactions: &[Vec<Claimed>]) -> Vec<Vec<i64>> {
        transactions.iter().map(|together| together.iter().map(|claimed| claimed.delivery).collect()).collect()
    }

    #[test]
    fn recipients_of_one_message_at_one_domain_go_together_and_others_do_not() {
        let all = [(1, "m", "b.c"), (2, "m", "d.e"), (3, "m", "b.c"), (4, "n", "b.c")];
        let claimed = all.map(|(delivery, message, domain)| claimed(delivery, message, domain));
        assert_eq!(deliveries(&transactions(claimed.into())), [vec![1, 3], vec![2], vec![4]]);
    }

    #[test]
    fn a_recipient_that_has_cost_some_attempts_goes_alone() {
        let tried = |delivery, attempts| Claimed { attempts, ..claimed(delivery, "m", "b.c") };
        let all = vec![tried(1, 0), tried(2, 3), tried(3, 2), tried(4, 4)];
        assert_eq!(deliveries(&transactions(all)), [vec![1, 3], vec![2], vec![4]]);
    }

    #[test]
    fn a_claim_that_has_failed_and_goes_on_choosing_keeps_no_place_of_a_domain() {
        let limiter = Arc::new(Mutex::new(Limiter::new(DomainLimits { concurrency: 2, per_second: None })));
        let begun = Begun::new(Arc::clone(&limiter));
        let now = Instant::now();
        assert!(begun.acquire("b.c", now));
        begun.give_back();
        assert!(!begun.acquire("b.c", now));
        assert!(locked(&limiter).acquire("b.c", now) && locked(&limiter).acquire("b.c", now), "both places are free");
    }

    #[test]
    fn a_transaction_has_no_more_recipients_than_every_server_takes() {
        let claimed = (0..250).map(|delivery| claimed(delivery, "m", "b.c")).collect();
        let sizes: Vec<usize> = transactions(claimed).iter().map(Vec::len).collect();
        assert_eq!(sizes, [RECIPIENTS_MAX, RECIPIENTS_MAX, 50]);
    }
}
