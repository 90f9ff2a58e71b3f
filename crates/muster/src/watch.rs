//! `muster watch`: every change of the instances as it happens.
//!
//! It follows etcd itself and not a registry: etcd is the truth, tells within milliseconds, and tells every change,
//! where asking a registry now and then would miss whatever came and went in between.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
<<<<<<< HEAD
use discovery::{Instance, InstanceKey, Override, ServiceName, Update};
use discovery_etcd::{Change, Etcd, EtcdOptions, OverrideUpdate, ResyncCause, WatchHealth};
=======
use discovery::ServiceName;
use discovery_etcd::{Etcd, EtcdOptions, WatchHealth};
>>>>>>> 2968923 (muster: Send tokens, trust an authority, and say how everything is)
use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    places::{DataOption, ETCD, Given},
    screen::{Look, Screen},
    shown::Shown,
};

/// A short interruption is nobody's business: everything is listed again at another member, and what differs is printed.
const INTERRUPTION: Duration = Duration::from_secs(3);

/// Options of `muster watch`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    data: DataOption,
    /// Only this service.
    service: Option<ServiceName>,
}

<<<<<<< HEAD
/// What was shown last, to say what is different now. Pure.
#[derive(Debug, Default)]
struct Shown {
    only: Option<ServiceName>,
    instances: BTreeMap<InstanceKey, Instance>,
    overrides: BTreeMap<InstanceKey, Override>,
}

=======
>>>>>>> 2968923 (muster: Send tokens, trust an authority, and say how everything is)
/// Prints changes until the process is ended.
pub(crate) async fn run(options: &WatchOptions, given: &Given) -> anyhow::Result<()> {
    let mut etcd_options = options.etcd.clone();
    let place = given.find(ETCD, given.etcd, &etcd_options.etcd_endpoints, &options.data)?;
    let endpoints = place.urls.join(", ");
    etcd_options.etcd_endpoints = place.urls;
    let etcd = Etcd::new(&etcd_options).context("the etcd options do not fit together")?;
    let watch = discovery_etcd::watch(etcd, discovery_etcd::WatchOptions::default());
    let mut contact = Contact::new(watch.health(), endpoints.clone());
    let mut changes = pin!(watch);
    let mut shown = Shown::new(options.service.clone(), format!("etcd {endpoints} ({})", place.origin));
    let screen = Screen::of_stdout();
    let mut ticks = interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let lines = tokio::select! {
            change = changes.next() => change.map(|change| shown.apply(change, Instant::now())).unwrap_or_default(),
            _ = ticks.tick() => contact.check(Instant::now()).into_iter().collect(),
        };
        for line in lines {
            print_line(&line, screen)?;
        }
    }
}

/// One line with the time, in UTC as in the logs. Fails when nothing reads any more, which ends the command.
fn print_line(line: &str, screen: Screen) -> anyhow::Result<()> {
    use std::io::Write as _;

    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let look = match line.as_bytes().first() {
        Some(b'+') => Look::Good,
        Some(b'-') => Look::Bad,
        Some(b'!' | b'?') => Look::Doubtful,
        Some(b'=') => Look::Dim,
        _ => Look::Plain,
    };
    let (time, line) = (screen.paint(Look::Dim, &time), screen.paint(look, line));
    writeln!(std::io::stdout(), "{time}  {line}").context("cannot print")
}

<<<<<<< HEAD
// === impl Shown ===

impl Shown {
    /// Takes a change in, and returns the lines that say it.
    fn apply(&mut self, change: Change) -> Vec<String> {
        let mut lines = Vec::new();
        if change.cause == Some(ResyncCause::Wiped) {
            lines.push("! etcd was emptied or restored from a backup".to_owned());
        }
        let is_first = change.cause == Some(ResyncCause::Started);
        for update in change.updates {
            match update {
                Update::Reset(all) => {
                    let now: BTreeMap<_, _> = all.into_iter().map(|one| (one.key, one.instance)).collect();
                    let gone: Vec<_> = self.instances.keys().filter(|key| !now.contains_key(key)).cloned().collect();
                    lines.extend(gone.iter().filter_map(|key| self.remove(key)));
                    lines.extend(now.into_iter().filter_map(|(key, instance)| self.add(&key, instance)));
                }
                Update::Add(one) => lines.extend(self.add(&one.key, one.instance)),
                Update::Remove(key) => lines.extend(self.remove(&key)),
            }
        }
        for update in change.overrides {
            match update {
                OverrideUpdate::Reset(now) => {
                    let gone: Vec<_> = self.overrides.keys().filter(|key| !now.contains_key(key)).cloned().collect();
                    lines.extend(gone.iter().filter_map(|key| self.unset(key)));
                    lines.extend(now.into_iter().filter_map(|(key, order)| self.set(&key, order)));
                }
                OverrideUpdate::Set(key, order) => lines.extend(self.set(&key, order)),
                OverrideUpdate::Unset(key) => lines.extend(self.unset(&key)),
            }
        }
        lines.extend(change.unreadable.iter().map(|unreadable| format!("? {}: {}", unreadable.key, unreadable.reason)));
        if is_first {
            let count = self.instances.keys().filter(|key| self.is_wanted(key)).count();
            lines.push(format!("= {count} at revision {}; changes follow", change.revision));
        }
        lines
    }

    fn add(&mut self, key: &InstanceKey, instance: Instance) -> Option<String> {
        let line = self.name(key).and_then(|name| match self.instances.get(key) {
            Some(before) if *before == instance => None,
            Some(before) if (before.status, &before.reason) != (instance.status, &instance.reason) => {
                Some(format!("~ {name}  {} -> {}", spoken(before), spoken(&instance)))
            }
            Some(before) => Some(format!("~ {name}  {before} -> {instance}")),
            None => Some(format!("+ {name}  {}  {instance}", spoken(&instance))),
        });
        self.instances.insert(key.clone(), instance);
        line
    }

    fn remove(&mut self, key: &InstanceKey) -> Option<String> {
        self.instances.remove(key)?;
        Some(format!("- {}", self.name(key)?))
    }

    fn set(&mut self, key: &InstanceKey, order: Override) -> Option<String> {
        let who = order.author.as_ref().map(|author| format!(" ({author})")).unwrap_or_default();
        let why = order.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let line = format!("! {}  {} by an operator{who}{why}", self.name(key)?, order.status);
        (self.overrides.get(key) != Some(&order)).then(|| {
            self.overrides.insert(key.clone(), order);
            line
        })
    }

    fn unset(&mut self, key: &InstanceKey) -> Option<String> {
        self.overrides.remove(key)?;
        Some(format!("! {}  speaks for itself again", self.name(key)?))
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
fn spoken(instance: &Instance) -> String {
    let reason = instance.reason.as_ref().map(|reason| format!(": {reason}"));
    format!("{}{}", instance.status, reason.unwrap_or_default())
}

=======
>>>>>>> 2968923 (muster: Send tokens, trust an authority, and say how everything is)
/// Whether etcd is heard, said when that changes.
struct Contact {
    health: WatchHealth,
    endpoints: String,
    /// Since when there is no connection.
    lost: Option<Instant>,
    is_said: bool,
}

// === impl Contact ===

impl Contact {
    fn new(health: WatchHealth, endpoints: String) -> Self {
        Self { health, endpoints, lost: None, is_said: false }
    }

    fn check(&mut self, now: Instant) -> Option<String> {
        let state = self.health.state();
        if state.connected {
            self.lost = None;
            return std::mem::take(&mut self.is_said).then(|| "! etcd is heard again; nothing was missed".to_owned());
        }
        let lost = *self.lost.get_or_insert(now);
        if self.is_said || now.duration_since(lost) < INTERRUPTION {
            return None;
        }
        self.is_said = true;
        let why = state.last_error.unwrap_or_else(|| "no answer yet".to_owned());
        Some(format!("! etcd is not heard ({}): {why}; still trying", self.endpoints))
    }
}
<<<<<<< HEAD

#[cfg(test)]
mod tests {
    use discovery::{LeaseId, Registered, Revision, Status};

    use super::*;

    fn registered(key: &str, value: &str) -> Registered {
        Registered {
            key: format!("service/{key}").parse().unwrap(),
            instance: Instance::parse(value.as_bytes()).unwrap(),
            lease: Some(LeaseId(1)),
            created: Revision(1),
            modified: Revision(1),
        }
    }

    fn change(updates: Vec<Update>, overrides: Vec<OverrideUpdate>, cause: Option<ResyncCause>) -> Change {
        Change { revision: Revision(7), cause, updates, overrides, ..Change::default() }
    }

    #[test]
    fn the_first_list_and_then_only_what_is_different_is_shown() {
        let mut shown = Shown::default();
        let mail = registered("mail/a", "10.0.0.5:7070");
        let first = change(vec![Update::Reset(vec![mail.clone()])], Vec::new(), Some(ResyncCause::Started));
        assert_eq!(shown.apply(first), ["+ mail a  passing  10.0.0.5:7070", "= 1 at revision 7; changes follow"]);
        let again = vec![Update::Reset(vec![mail, registered("web/b", "10.0.0.6:80")])];
        assert_eq!(
            shown.apply(change(again, Vec::new(), Some(ResyncCause::Closed))),
            ["+ web b  passing  10.0.0.6:80"],
            "a list after a gap repeats nothing"
        );
        let gone = change(vec![Update::Reset(Vec::new())], Vec::new(), Some(ResyncCause::Wiped));
        assert_eq!(shown.apply(gone), ["! etcd was emptied or restored from a backup", "- mail a", "- web b"]);
    }

    #[test]
    fn changes_of_status_and_an_operators_word_are_told_apart() {
        let mut shown = Shown::default();
        let add = |value| vec![Update::Add(registered("mail/a", value))];
        shown.apply(change(add("10.0.0.5:7070"), Vec::new(), None));
        let drained = change(add("http://10.0.0.5:7070?status=draining"), Vec::new(), None);
        assert_eq!(shown.apply(drained), ["~ mail a  passing -> draining"]);
        let key: InstanceKey = "service/mail/a".parse().unwrap();
        let set = vec![OverrideUpdate::Set(key.clone(), Status::Draining.into())];
        assert_eq!(shown.apply(change(Vec::new(), set, None)), ["! mail a  draining by an operator"]);
        let unset = vec![OverrideUpdate::Unset(key.clone())];
        assert_eq!(shown.apply(change(Vec::new(), unset, None)), ["! mail a  speaks for itself again"]);
        let remove = vec![Update::Remove(key.clone()), Update::Remove(key)];
        assert_eq!(shown.apply(change(remove, Vec::new(), None)), ["- mail a"]);
    }

    #[test]
    fn other_services_are_not_shown_when_one_is_asked_for() {
        let mut shown = Shown { only: Some("web".parse().unwrap()), ..Shown::default() };
        let both = vec![registered("mail/a", "10.0.0.5:7070"), registered("web/b", "10.0.0.6:80")];
        let lines = shown.apply(change(vec![Update::Reset(both)], Vec::new(), Some(ResyncCause::Started)));
        assert_eq!(lines, ["+ web b  passing  10.0.0.6:80", "= 1 at revision 7; changes follow"]);
    }
}
=======
>>>>>>> 2968923 (muster: Send tokens, trust an authority, and say how everything is)
