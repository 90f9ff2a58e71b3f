//! What keeps a watch going: the three phases of [`watch`](mod@crate::watch), one function each.

use std::time::Duration;

use discovery::Revision;
use etcd_client::{WatchResponse, WatchStream};
use service_kit::backoff::Backoff;
use tokio::{
    select,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    client::{etcd::Etcd, failure::Failure},
    keys::decode::Range,
    watch::{
        change::{Change, WatchOptions},
        health::{ResyncCause, WatchHealth},
        mirror::{Changes, Event, Mirror},
        progress_monitor::{NextStep, ProgressMonitor},
        reconcile::{Reconcile, Verdict},
        stream::{self, StreamMessage},
    },
};

/// The target of the log lines, which people filter by: it does not move with the file.
const LOG_TARGET: &str = "discovery_etcd::watch_engine";

/// Everything that a watch remembers between two changes.
pub(crate) struct Engine {
    etcd: Etcd,
    options: WatchOptions,
    health: WatchHealth,
    mirror: Mirror,
    phase: Phase,
    /// The revision of the last list.
    listed: Revision,
    backoff: Backoff,
}

enum Phase {
    List(ResyncCause),
    Open,
    Watch(Box<Connection>),
}

/// An open watch stream.
struct Connection {
    member: usize,
    stream: WatchStream,
    progress: ProgressMonitor,
    reconcile: Reconcile,
    created: usize,
    /// What the last answer to a progress request said; the next answer confirms it.
    last_progress: Revision,
}

/// What ended the waiting on a connection.
enum WatchEvent {
    Response(Result<Option<WatchResponse>, etcd_client::Error>),
    Time,
    Reconcile,
}

// === impl Engine ===

impl Engine {
    pub(crate) fn new(etcd: Etcd, options: WatchOptions, health: WatchHealth) -> Self {
        Self {
            mirror: Mirror::default(),
            phase: Phase::List(ResyncCause::Started),
            listed: Revision::default(),
            backoff: Backoff::new(Duration::from_millis(50), options.retry_max),
            health,
            options,
            etcd,
        }
    }

    /// Goes on until something is worth telling, however long that takes.
    pub(crate) async fn next(&mut self) -> Change {
        loop {
            let step = match std::mem::replace(&mut self.phase, Phase::Open) {
                Phase::List(cause) => self.list(cause).await,
                Phase::Open => {
                    self.open().await;
                    None
                }
                Phase::Watch(connection) => self.watch(connection).await,
            };
            if let Some(change) = step {
                return change;
            }
        }
    }

    /// LIST: until it succeeds, with a growing pause between attempts.
    async fn list(&mut self, cause: ResyncCause) -> Option<Change> {
        let snapshot = match self.etcd.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let text = service_kit::chain(&error).to_string();
                self.retry_later(&text).await;
                self.phase = Phase::List(cause);
                return None;
            }
        };
        let known = self.health.state().revision;
        let cause = if snapshot.revision < known { ResyncCause::Wiped } else { cause };
        let revision = snapshot.revision;
        self.listed = revision;
        let changes = self.mirror.reset(snapshot);
        self.health.change(|state| {
            *state.resyncs.entry(cause).or_default() += 1;
            state.revision = revision;
            state.last_response = Some(Instant::now());
            state.unreadable = self.mirror.unreadable();
        });
        match cause {
            ResyncCause::Started => info!(target: LOG_TARGET, %revision, "listed what is registered"),
            ResyncCause::Wiped => {
                warn!(target: LOG_TARGET, %revision, %known, "etcd's history went backwards: the cluster was wiped or restored")
            }
            cause => {
                info!(target: LOG_TARGET, %revision, %cause, changed = !changes.is_empty(), "listed again what is registered")
            }
        }
        Self::change(revision, Some(cause), changes)
    }

    /// OPEN: on the member that is asked first now, which is the one that gave the list.
    ///
    /// From the list's own revision on, not from the next one: since 3.5.22 etcd answers no progress request while a
    /// watch starts in the future, and on a quiet cluster every watch would look dead. What the list has already shown
    /// comes again, and the mirror skips it.
    async fn open(&mut self) {
        let order = self.etcd.order();
        let index = order[0];
        let member = &self.etcd.members[index];
        let opened = timeout(self.etcd.attempt(), stream::open(member, self.listed)).await;
        match opened.unwrap_or(Err(Failure::Silent)) {
            Ok(stream) => {
                debug!(target: LOG_TARGET, endpoint = member.endpoint, revision = %self.listed, "watching");
                let now = Instant::now();
                let options = &self.options;
                self.phase = Phase::Watch(Box::new(Connection {
                    member: index,
                    stream,
                    progress: ProgressMonitor::new(now, options.progress_interval, options.silence_limit),
                    reconcile: Reconcile::new(self.etcd.clone(), options.reconcile_interval, now),
                    created: 0,
                    last_progress: self.listed,
                }));
            }
            Err(failure) => {
                self.etcd.record_outcome(index, Some(&failure));
                self.retry_later(&format!("{}: {failure}", member.endpoint)).await;
                self.phase = Phase::List(ResyncCause::Closed);
            }
        }
    }

    /// WATCH: until something is worth telling, or the connection is lost.
    async fn watch(&mut self, mut connection: Box<Connection>) -> Option<Change> {
        loop {
            let change = match connection.wait().await {
                WatchEvent::Response(Ok(Some(response))) => match self.handle_response(&mut connection, &response) {
                    Ok(change) => change,
                    Err((cause, text)) => return self.drop_connection(&mut connection, cause, &text).await,
                },
                WatchEvent::Response(Ok(None)) => {
                    return self.drop_connection(&mut connection, ResyncCause::Closed, "the stream ended").await;
                }
                WatchEvent::Response(Err(error)) => {
                    let text = Failure::from(error).to_string();
                    return self.drop_connection(&mut connection, ResyncCause::Closed, &text).await;
                }
                WatchEvent::Time => match connection.progress.due(Instant::now()) {
                    NextStep::Silent => {
                        return self.drop_connection(&mut connection, ResyncCause::Silent, "no sign of life").await;
                    }
                    NextStep::Ask => {
                        // A full queue of unanswered requests means the same as silence, which is then noticed.
                        connection.progress.request_sent(Instant::now());
                        let _ = timeout(self.options.progress_interval, connection.stream.request_progress()).await;
                        None
                    }
                    NextStep::Wait(_) => None,
                },
                WatchEvent::Reconcile => None,
            };
            if change.is_some() {
                self.phase = Phase::Watch(connection);
                return change;
            }
        }
    }

    /// Takes in one response.
    fn handle_response(
        &mut self,
        connection: &mut Connection,
        response: &WatchResponse,
    ) -> Result<Option<Change>, (ResyncCause, String)> {
        let now = Instant::now();
        connection.progress.response_received();
        // The header's revision is etcd's, and may be ahead of what has been sent to us.
        let (_, said) = stream::read(response, self.listed);
        let mut revision = self.listed;
        let changes = match said {
            StreamMessage::Lost(cause, text) => return Err((cause, text)),
            StreamMessage::Created(_) => {
                connection.created += 1;
                Changes::default()
            }
            StreamMessage::Events(range, events) => {
                connection.reconcile.note(range, &events);
                revision = events.iter().map(Event::modified).max().unwrap_or_default();
                self.mirror.apply(range, &events)
            }
            StreamMessage::Progress(told) => {
                // etcd 3.4 answers a little early (issue 15220): what it said a second ago is true by now.
                revision = std::mem::replace(&mut connection.last_progress, told);
                self.compare(connection, told)
            }
        };
        let connected = connection.created == Range::ALL.len();
        if connected {
            self.backoff.reset();
        }
        self.health.change(|state| {
            state.connected = connected;
            state.last_response = Some(now);
            state.revision = state.revision.max(revision);
            state.unreadable = self.mirror.unreadable();
            if connected {
                state.last_error = None;
            }
        });
        let revision = self.health.state().revision;
        let cause = changes.has_reset().then_some(ResyncCause::Reconciled);
        Ok(Self::change(revision, cause, changes))
    }

    /// Compares with a complete list, when one is there and the watch has caught up with it.
    fn compare(&mut self, connection: &mut Connection, told: Revision) -> Changes {
        match connection.reconcile.compare(&self.mirror, told) {
            Verdict::Open => Changes::default(),
            Verdict::Same => {
                self.health.change(|state| state.comparisons += 1);
                Changes::default()
            }
            Verdict::Different { keys, snapshot, touched } => {
                warn!(target: LOG_TARGET, keys, revision = %snapshot.revision, "the watch had missed a change; corrected from a complete list");
                self.health.change(|state| {
                    state.comparisons += 1;
                    state.differences += keys as u64;
                    *state.resyncs.entry(ResyncCause::Reconciled).or_default() += 1;
                });
                self.mirror.adopt(snapshot, &touched)
            }
        }
    }

    /// The connection is of no use any more: the next step is a list, preferably from another member.
    async fn drop_connection(&mut self, connection: &mut Connection, cause: ResyncCause, text: &str) -> Option<Change> {
        let member = &self.etcd.members[connection.member];
        warn!(target: LOG_TARGET, endpoint = member.endpoint, %cause, error = text, "lost the watch");
        if cause != ResyncCause::Compacted {
            self.etcd.record_outcome(connection.member, Some(&Failure::Unreachable(text.to_owned())));
        }
        self.health.change(|state| {
            state.connected = false;
            state.last_error = Some(format!("{}: {text}", member.endpoint));
        });
        self.phase = Phase::List(cause);
        // A member that takes the stream and ends it at once must not be asked in a tight loop; the first time is free.
        if connection.created < Range::ALL.len() && cause != ResyncCause::Compacted {
            // Older versions answer an unknown token with "permission denied": get a new one, in any case.
            if let Ok(Ok((connected, number))) = timeout(self.etcd.attempt(), member.ready()).await {
                let _ = timeout(self.etcd.attempt(), connected.login.log_in(&connected.client, number)).await;
            }
            sleep(self.backoff.next_wait()).await;
        }
        None
    }

    async fn retry_later(&mut self, text: &str) {
        if self.backoff.failures() == 0 {
            warn!(target: LOG_TARGET, error = text, "cannot watch etcd; retrying");
        } else {
            debug!(target: LOG_TARGET, error = text, "still cannot watch etcd");
        }
        self.health.change(|state| {
            state.connected = false;
            state.last_error = Some(text.to_owned());
        });
        sleep(self.backoff.next_wait()).await;
    }

    fn change(revision: Revision, cause: Option<ResyncCause>, changes: Changes) -> Option<Change> {
        if changes.is_empty() {
            return None;
        }
        let Changes { updates, overrides, policies, access_keys, unreadable } = changes;
        Some(Change { revision, cause, updates, overrides, policies, access_keys, unreadable })
    }
}

// === impl Connection ===

impl Connection {
    async fn wait(&mut self) -> WatchEvent {
        let due = match self.progress.due(Instant::now()) {
            NextStep::Wait(until) => until,
            NextStep::Ask | NextStep::Silent => Instant::now(),
        };
        select! {
            // What has arrived is heard before silence is judged.
            biased;
            response = self.stream.message() => WatchEvent::Response(response),
            () = sleep_until(due) => WatchEvent::Time,
            () = self.reconcile.advance() => WatchEvent::Reconcile,
        }
    }
}
