//! `muster watch`: every change of the instances as it happens.
//!
//! It follows etcd itself and not a registry: etcd is the truth, tells within milliseconds, and tells every change,
//! where asking a registry now and then would miss whatever came and went in between.

mod shown;

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use discovery::ServiceName;
use discovery_etcd::{Etcd, EtcdOptions, WatchHealth};
use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    client::places::{DataOption, ETCD, Given},
    terminal::screen::{Look, Screen},
    watch::shown::Shown,
};

/// A short interruption is not reported: everything is listed again at another member, and what differs is printed.
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
    let time = screen.paint(Look::Dim, &time);
    let line = screen.paint(look, line);
    writeln!(std::io::stdout(), "{time}  {line}").context("cannot print")
}

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
