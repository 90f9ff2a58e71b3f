//! What is worth telling, and when. Plain values; the time is passed in.
//!
//! A service has too few instances when it has fewer than its minimum; without one of its own, that is one, from the
//! moment it was first seen. It must have too few for [`Rules::after`], without a break, before that is news; and enough
//! for as long before that is. So a restart is no news, and a service that flaps is told of once, as being down.
//!
//! The first news opens a window; what becomes news while it is open goes into the same message.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use discovery::ServiceName;
use tokio::time::Instant;

use super::message::{Message, News};

/// A service without a minimum of its own is forgotten when it was gone for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// When to tell.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// How many instances these need; any other needs one.
    pub minimum: BTreeMap<ServiceName, usize>,
    /// How long it must stay so.
    pub after: Duration,
    /// How long news is collected.
    pub window: Duration,
}

/// Every service that is or was there.
#[derive(Debug, Default)]
pub struct Watchlist {
    rules: Rules,
    services: BTreeMap<ServiceName, Watched>,
    /// When the first news that is not told came up.
    opened: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    count: usize,
    is_down: bool,
    /// Since when.
    since: Instant,
    /// What people believe.
    is_told_down: bool,
}

// === impl Watchlist ===

impl Watchlist {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Takes note of how many instances each service has; who is not in `counts` has none.
    pub fn observe(&mut self, counts: &BTreeMap<ServiceName, usize>, now: Instant) {
        let named = self.rules.minimum.keys().chain(counts.keys()).cloned();
        let all: BTreeSet<ServiceName> = named.chain(self.services.keys().cloned()).collect();
        for service in all {
            let count = counts.get(&service).copied().unwrap_or(0);
            let is_down = count < self.minimum(&service);
            let new = || Watched { count, is_down, since: now, is_told_down: false };
            let watched = self.services.entry(service).or_insert_with(new);
            if watched.is_down != is_down {
                watched.since = now;
            }
            (watched.count, watched.is_down) = (count, is_down);
        }
        let minimum = &self.rules.minimum;
        self.services.retain(|service, watched| {
            watched.count > 0 || minimum.contains_key(service) || now - watched.since < FORGOTTEN_AFTER
        });
    }

    /// The message to send now, if there is one. It is told once [`Watchlist::told`] says so; until then it comes again.
    pub fn due(&mut self, now: Instant) -> Option<Message> {
        let news = self.news(now);
        if news.is_empty() {
            self.opened = None;
            return None;
        }
        let opened = *self.opened.get_or_insert(now);
        (now - opened >= self.rules.window).then_some(Message { news })
    }

    /// People know this now.
    pub fn told(&mut self, message: &Message) {
        self.opened = None;
        for news in &message.news {
            if let Some(watched) = self.services.get_mut(&news.service) {
                watched.is_told_down = news.is_down;
            }
        }
    }

    /// Which services people believe to be down.
    #[must_use]
    pub fn told_down(&self) -> BTreeSet<ServiceName> {
        self.services.iter().filter(|(_, watched)| watched.is_told_down).map(|(name, _)| name.clone()).collect()
    }

    /// Takes over from somebody else, who has told people that these are down.
    pub fn take_over(&mut self, told_down: &BTreeSet<ServiceName>, now: Instant) {
        for service in told_down {
            let new = || Watched { count: 0, is_down: true, since: now, is_told_down: true };
            self.services.entry(service.clone()).or_insert_with(new);
        }
        for (service, watched) in &mut self.services {
            watched.is_told_down = told_down.contains(service);
        }
    }

    fn news(&self, now: Instant) -> Vec<News> {
        let is_news =
            |watched: &Watched| watched.is_down != watched.is_told_down && now - watched.since >= self.rules.after;
        let all = self.services.iter().filter(|(_, watched)| is_news(watched));
        all.map(|(service, watched)| News {
            service: service.clone(),
            is_down: watched.is_down,
            instances: watched.count,
            minimum: self.minimum(service),
        })
        .collect()
    }

    fn minimum(&self, service: &ServiceName) -> usize {
        self.rules.minimum.get(service).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);
    const WINDOW: Duration = Duration::from_secs(5);

    fn counts(all: &[(&str, usize)]) -> BTreeMap<ServiceName, usize> {
        all.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect()
    }

    fn watchlist(minimum: &[(&str, usize)]) -> Watchlist {
        Watchlist::new(Rules { minimum: counts(minimum), after: AFTER, window: WINDOW })
    }

    /// Looks every second for `secs`, with `all` there; the messages, told at once.
    fn pass(list: &mut Watchlist, now: &mut Instant, secs: u64, all: &[(&str, usize)]) -> Vec<String> {
        let mut messages = Vec::new();
        for _ in 0..secs {
            *now += Duration::from_secs(1);
            list.observe(&counts(all), *now);
            if let Some(message) = list.due(*now) {
                list.told(&message);
                messages.push(message.subject());
            }
        }
        messages
    }

    #[test]
    fn the_loss_of_the_last_instance_and_the_recovery_are_told_once_each() {
        let (mut list, mut now) = (watchlist(&[]), Instant::now());
        assert!(pass(&mut list, &mut now, 60, &[("mail", 1)]).is_empty());
        assert_eq!(pass(&mut list, &mut now, 60, &[]), ["mail is down"]);
        assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 1)]), ["mail is back"]);
    }

    #[test]
    fn a_restart_is_no_news_and_flapping_is_told_once() {
        let (mut list, mut now) = (watchlist(&[]), Instant::now());
        let up: &[(&str, usize)] = &[("mail", 1)];
        assert!(pass(&mut list, &mut now, 5, up).is_empty());
        assert!(pass(&mut list, &mut now, 9, &[]).is_empty());
        assert!(pass(&mut list, &mut now, 30, up).is_empty());
        assert_eq!(pass(&mut list, &mut now, 20, &[]), ["mail is down"]);
        for _ in 0..10 {
            assert!(pass(&mut list, &mut now, 5, up).is_empty());
            assert!(pass(&mut list, &mut now, 5, &[]).is_empty());
        }
    }

    #[test]
    fn fewer_than_the_minimum_is_told_and_a_service_that_never_came_is_too() {
        let (mut list, mut now) = (watchlist(&[("mail", 2), ("shop", 1)]), Instant::now());
        let told = pass(&mut list, &mut now, 60, &[("mail", 1), ("web", 1)]);
        assert_eq!(told, ["mail has 1 of 2 instances, shop is down"]);
    }

    #[test]
    fn a_storm_is_one_message() {
        let (mut list, mut now) = (watchlist(&[]), Instant::now());
        let names: Vec<String> = (0..50).map(|number| format!("s{number}")).collect();
        let all: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert!(pass(&mut list, &mut now, 5, &all).is_empty());
        let mut told = pass(&mut list, &mut now, 3, &all[25..]);
        told.extend(pass(&mut list, &mut now, 60, &[]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("50 services are down"), "{told:?}");
    }

    #[test]
    fn who_takes_over_tells_nothing_twice_and_does_not_forget_the_recovery() {
        let (mut list, mut now) = (watchlist(&[]), Instant::now());
        assert!(pass(&mut list, &mut now, 5, &[("mail", 1)]).is_empty());
        list.observe(&counts(&[]), now);
        list.take_over(&["mail".parse().unwrap(), "old".parse().unwrap()].into(), now);
        assert!(pass(&mut list, &mut now, 60, &[]).is_empty());
        assert_eq!(pass(&mut list, &mut now, 60, &[("mail", 1), ("old", 1)]), ["mail is back, old is back"]);
    }

    #[test]
    fn what_could_not_be_sent_is_due_again() {
        let (mut list, now) = (watchlist(&[("mail", 1)]), Instant::now());
        list.observe(&counts(&[]), now);
        assert!(list.due(now + AFTER).is_none(), "the window opens");
        assert!(list.due(now + AFTER + WINDOW).is_some() && list.due(now + AFTER + WINDOW).is_some());
    }
}
