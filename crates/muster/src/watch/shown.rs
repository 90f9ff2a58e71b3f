//! What `muster watch` has shown, to say what is different now. Pure.

use std::collections::BTreeMap;

use discovery::{Instance, InstanceKey, Override, Registered, ServiceName, Status, Update};
use discovery_etcd::{Change, OverrideUpdate, ResyncCause};
use tokio::time::Instant;

use crate::listing::spoken;

/// How many of those that have gone are remembered, to say that one is back. The longest gone are forgotten first.
const GONE_MAX: usize = 1024;

/// What was shown last.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    only: Option<ServiceName>,
    /// Where all this comes from.
    place: String,
    instances: BTreeMap<InstanceKey, Registered>,
    overrides: BTreeMap<InstanceKey, Override>,
    gone: BTreeMap<InstanceKey, Instant>,
}

// === impl Shown ===

impl Shown {
    /// Nothing yet. `place` says where the changes come from.
    pub(crate) fn new(only: Option<ServiceName>, place: String) -> Self {
        Self { only, place, ..Self::default() }
    }

    /// Takes in a change that came at `now`, and returns the lines that say it.
    pub(crate) fn apply(&mut self, change: Change, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        let is_wiped = change.cause == Some(ResyncCause::Wiped);
        if is_wiped {
            lines.push("! etcd was emptied or restored from a backup".to_owned());
        }
        let is_first = change.cause == Some(ResyncCause::Started);
        for update in change.updates {
            match update {
                Update::Reset(all) => lines.extend(self.reset(all, is_wiped, now)),
                Update::Add(one) => lines.extend(self.add(&one, now)),
                Update::Remove(key) => lines.extend(self.remove(&key, is_wiped, now)),
            }
        }
        for update in change.overrides {
            lines.extend(self.take_override(update));
        }
        lines.extend(change.unreadable.iter().map(|unreadable| format!("? {}: {}", unreadable.key, unreadable.reason)));
        if is_first {
            let count = self.instances.keys().filter(|key| self.is_wanted(key)).count();
            lines.push(format!("= {count} at revision {} of {}; changes follow", change.revision, self.place));
        }
        lines
    }

    fn reset(&mut self, all: Vec<Registered>, is_wiped: bool, now: Instant) -> Vec<String> {
        let listed: BTreeMap<_, _> = all.into_iter().map(|one| (one.key.clone(), one)).collect();
        let gone: Vec<_> = self.instances.keys().filter(|key| !listed.contains_key(key)).cloned().collect();
        let mut lines: Vec<String> = gone.iter().filter_map(|key| self.remove(key, is_wiped, now)).collect();
        lines.extend(listed.values().filter_map(|one| self.add(one, now)));
        lines
    }

    fn take_override(&mut self, update: OverrideUpdate) -> Vec<String> {
        match update {
            OverrideUpdate::Reset(listed) => {
                let gone: Vec<_> = self.overrides.keys().filter(|key| !listed.contains_key(key)).cloned().collect();
                let mut lines: Vec<String> = gone.iter().filter_map(|key| self.unset(key)).collect();
                lines.extend(listed.into_iter().filter_map(|(key, order)| self.set(&key, order)));
                lines
            }
            OverrideUpdate::Set(key, order) => self.set(&key, order).into_iter().collect(),
            OverrideUpdate::Unset(key) => self.unset(&key).into_iter().collect(),
        }
    }

    fn add(&mut self, one: &Registered, now: Instant) -> Option<String> {
        let before = self.instances.insert(one.key.clone(), one.clone());
        let gone = self.gone.remove(&one.key);
        let name = self.name(&one.key)?;
        let instance = &one.instance;
        let Some(before) = before else {
            let back = gone.map(|gone| format!("  (back after {})", spoken(now.duration_since(gone))));
            return Some(format!("+ {name}  {}  {instance}{}", state(instance), back.unwrap_or_default()));
        };
        if before.lease != one.lease {
            let was = &before.instance.address;
            let is = &instance.address;
            let moved = if was == is { String::new() } else { format!("  (was at {was})") };
            return Some(format!("~ {name}  started anew: {}  {instance}{moved}", state(instance)));
        }
        let was = &before.instance;
        match (was.status, &was.reason) == (instance.status, &instance.reason) {
            true if was == instance => None,
            true => Some(format!("~ {name}  {was} -> {instance}")),
            false => Some(format!("~ {name}  {} -> {}", state(was), state(instance))),
        }
    }

    fn remove(&mut self, key: &InstanceKey, is_wiped: bool, now: Instant) -> Option<String> {
        let last = self.instances.remove(key)?;
        self.remember(key, now);
        let is_farewell = last.instance.status == Status::Draining;
        let how = match is_farewell {
            _ if is_wiped => "gone with what etcd had",
            true => "left",
            // Its lease ended, or its key was removed by hand: etcd does not say which.
            false => "its heartbeats stopped",
        };
        let drained = self.overrides.get(key).map(|order| format!("; it was {}", word(order)));
        Some(format!("- {}  {how}{}", self.name(key)?, drained.unwrap_or_default()))
    }

    fn remember(&mut self, key: &InstanceKey, now: Instant) {
        self.gone.insert(key.clone(), now);
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())
        {
            self.gone.remove(&oldest);
        }
    }

    fn set(&mut self, key: &InstanceKey, order: Override) -> Option<String> {
        let said = word(&order);
        let is_new = self.overrides.get(key) != Some(&order);
        self.overrides.insert(key.clone(), order);
        let name = self.name(key)?;
        is_new.then(|| format!("! {name}  {said}"))
    }

    fn unset(&mut self, key: &InstanceKey) -> Option<String> {
        self.overrides.remove(key)?;
        Some(format!("! {}  is back in rotation", self.name(key)?))
    }

    /// `mail 10.0.0.5:7070`, if it is of interest.
    fn name(&self, key: &InstanceKey) -> Option<String> {
        let instance = key.instance.as_ref().map_or("(nameless)", |instance| instance.as_str());
        self.is_wanted(key).then(|| format!("{} {instance}", key.service))
    }

    fn is_wanted(&self, key: &InstanceKey) -> bool {
        self.only.as_ref().is_none_or(|only| *only == key.service)
    }
}

/// `critical: the database is gone`
fn state(instance: &Instance) -> String {
    let reason = instance.reason.as_ref().map(|reason| format!(": {reason}"));
    format!("{}{}", instance.status, reason.unwrap_or_default())
}

/// An operator's word: what, by whom, and why.
fn word(order: &Override) -> String {
    let who = order.author.as_ref().map(|author| format!(" ({author})")).unwrap_or_default();
    let why = order.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{} by an operator{who}{why}", order.status)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use discovery::{LeaseId, Revision};

    use super::*;

    fn registered(key: &str, value: &str, lease: i64) -> Registered {
        Registered {
            key: format!("service/{key}").parse().unwrap(),
            instance: Instance::parse(value.as_bytes()).unwrap(),
            lease: Some(LeaseId(lease)),
            created: Revision(1),
            modified: Revision(1),
        }
    }

    fn change(updates: Vec<Update>, overrides: Vec<OverrideUpdate>, cause: Option<ResyncCause>) -> Change {
        Change { revision: Revision(7), cause, updates, overrides, ..Change::default() }
    }

    fn shown(only: Option<&str>) -> impl FnMut(Vec<Update>, Vec<OverrideUpdate>, Option<ResyncCause>) -> Vec<String> {
        let mut shown =
            Shown::new(only.map(|only| only.parse().unwrap()), "etcd http://a:1 (ETCD_ENDPOINTS)".to_owned());
        let start = Instant::now();
        let mut secs = 0;
        move |updates, overrides, cause| {
            secs += 1;
            shown.apply(change(updates, overrides, cause), start + Duration::from_secs(secs))
        }
    }

    fn add(value: &str, lease: i64) -> Vec<Update> {
        vec![Update::Add(registered("mail/a", value, lease))]
    }

    fn remove() -> Vec<Update> {
        vec![Update::Remove("service/mail/a".parse().unwrap())]
    }

    #[test]
    fn the_first_list_and_then_only_what_is_different_is_shown() {
        let mut apply = shown(None);
        let mail = registered("mail/a", "10.0.0.5:7070", 1);
        let first = apply(vec![Update::Reset(vec![mail.clone()])], Vec::new(), Some(ResyncCause::Started));
        let said = "= 1 at revision 7 of etcd http://a:1 (ETCD_ENDPOINTS); changes follow";
        assert_eq!(first, ["+ mail a  passing  10.0.0.5:7070", said]);
        let again = vec![Update::Reset(vec![mail, registered("web/b", "10.0.0.6:80", 2)])];
        let after_a_gap = apply(again, Vec::new(), Some(ResyncCause::Closed));
        assert_eq!(after_a_gap, ["+ web b  passing  10.0.0.6:80"], "a list after a gap repeats nothing");
        let wiped = apply(vec![Update::Reset(Vec::new())], Vec::new(), Some(ResyncCause::Wiped));
        let gone = ["- mail a  gone with what etcd had", "- web b  gone with what etcd had"];
        assert_eq!(wiped, [&["! etcd was emptied or restored from a backup"][..], &gone].concat());
    }

    #[test]
    fn a_leaving_has_a_cause() {
        let mut apply = shown(None);
        apply(add("10.0.0.5:7070", 1), Vec::new(), None);
        assert_eq!(apply(remove(), Vec::new(), None), ["- mail a  its heartbeats stopped"]);
        let back = apply(add("10.0.0.5:7070", 2), Vec::new(), None);
        assert_eq!(back, ["+ mail a  passing  10.0.0.5:7070  (back after 1 s)"]);
        let drained = apply(add("http://10.0.0.5:7070?status=draining", 2), Vec::new(), None);
        assert_eq!(drained, ["~ mail a  passing -> draining"]);
        assert_eq!(apply(remove(), Vec::new(), None), ["- mail a  left"]);
        assert_eq!(apply(remove(), Vec::new(), None), [""; 0], "it is gone already");
    }

    #[test]
    fn an_operators_word_is_told_and_remembered_when_the_instance_ends() {
        let mut apply = shown(None);
        let key: InstanceKey = "service/mail/a".parse().unwrap();
        apply(add("10.0.0.5:7070", 1), Vec::new(), None);
        let set = || vec![OverrideUpdate::Set(key.clone(), Status::Draining.into())];
        assert_eq!(apply(Vec::new(), set(), None), ["! mail a  draining by an operator"]);
        let unset = vec![OverrideUpdate::Unset(key.clone())];
        assert_eq!(apply(Vec::new(), unset, None), ["! mail a  is back in rotation"]);
        apply(Vec::new(), set(), None);
        apply(add("http://10.0.0.5:7070?status=draining", 1), Vec::new(), None);
        assert_eq!(apply(remove(), Vec::new(), None), ["- mail a  left; it was draining by an operator"]);
    }

    #[test]
    fn a_restart_under_the_same_name_is_shown() {
        let mut apply = shown(None);
        apply(add("10.0.0.5:7070", 1), Vec::new(), None);
        let same = apply(add("10.0.0.5:7070", 2), Vec::new(), None);
        assert_eq!(same, ["~ mail a  started anew: passing  10.0.0.5:7070"]);
        let moved = apply(add("10.0.0.6:7070", 3), Vec::new(), None);
        assert_eq!(moved, ["~ mail a  started anew: passing  10.0.0.6:7070  (was at 10.0.0.5:7070)"]);
        assert_eq!(apply(add("10.0.0.6:7070", 3), Vec::new(), None), [""; 0], "the same registration, written again");
    }

    #[test]
    fn other_services_are_not_shown_when_one_is_asked_for() {
        let mut apply = shown(Some("web"));
        let both = vec![registered("mail/a", "10.0.0.5:7070", 1), registered("web/b", "10.0.0.6:80", 2)];
        let lines = apply(vec![Update::Reset(both)], Vec::new(), Some(ResyncCause::Started));
        assert_eq!(lines[0], "+ web b  passing  10.0.0.6:80");
        assert!(lines.len() == 2 && lines[1].starts_with("= 1 at revision 7"), "{lines:?}");
    }
}
