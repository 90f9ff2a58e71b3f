//! The loop: say it, note what became of it, wait.

mod leave;
mod life;

use std::{net::SocketAddr, time::Duration};

use discovery::{Address, InstanceId, InstanceKey, ServiceName};
use rand::RngExt as _;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use self::life::Lives;
use crate::{
    AdvertiseError, Condition, Details, HeartbeatError, HeartbeatOptions, RegistryUrl, State,
    advertise::Advertise,
    client::Client,
    condition::Remarks,
    details::Announcement,
    log_events,
    registration_state::{Accepted, Change, RegistrationState},
    registries::Registries,
    schedule::{Schedule, Verdict},
};

/// Asks the task to deregister and end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShutdownRequest {
    /// How long to wait for the gateways afterwards.
    pub(crate) let_go: Duration,
}

/// How long one registry, and a whole heartbeat, may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) attempt: Duration,
    pub(crate) whole: Duration,
}

/// Who is announced.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) address: Address,
    pub(crate) instance: InstanceId,
}

/// Everything that the loop owns.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) service: ServiceName,
    pub(crate) urls: Vec<RegistryUrl>,
    pub(crate) client: Client,
    pub(crate) registries: Registries,
    pub(crate) registration: RegistrationState,
    pub(crate) lives: Lives,
    pub(crate) ttl: Duration,
    announcement: Announcement,
    advertise: Advertise,
    instance_id: Option<InstanceId>,
    /// Whom the last heartbeat announced, taken or not: who is to be deregistered.
    pub(crate) announced: Option<Identity>,
    /// Whether a heartbeat of which nothing was heard, or whose outcome is unclear, may have registered us.
    pub(crate) in_doubt: bool,
    schedule: Schedule,
    condition: watch::Receiver<Condition>,
    remarks: Remarks,
    state: watch::Sender<State>,
}

// === impl Task ===

impl Task {
    /// The task, and where its state is seen.
    pub(crate) fn new(
        service: ServiceName,
        listen: SocketAddr,
        options: &HeartbeatOptions,
        details: Details,
        condition: watch::Receiver<Condition>,
    ) -> (Self, watch::Receiver<State>) {
        let urls = options.registries.clone();
        let registration = RegistrationState::new(Instant::now());
        let (state, state_seen) = watch::channel(registration.state().clone());
        let task = Self {
            service,
            client: Client::new(options.credentials.clone(), &urls),
            // A random one first, so that instances with the same configuration share the registries between them.
            registries: Registries::new(urls.len(), rand::rng().random_range(0..=usize::MAX)),
            registration,
            lives: Lives::new(),
            ttl: options.ttl.get(),
            advertise: Advertise::new(listen, options.advertise.as_ref(), &urls),
            announcement: Announcement::new(options, details),
            instance_id: options.instance_id.clone(),
            announced: None,
            in_doubt: false,
            schedule: Schedule::new(options.ttl),
            urls,
            condition,
            remarks: Remarks::default(),
            state,
        };
        (task, state_seen)
    }

    /// Heartbeats until asked to leave, then leaves; or stops silently when the handle is dropped.
    pub(crate) async fn run(mut self, mut leave: oneshot::Receiver<ShutdownRequest>) {
        let wish = loop {
            tokio::select! {
                biased;
                wish = &mut leave => break wish,
                () = self.heartbeat_and_wait() => {}
            }
        };
        if let Ok(leave) = wish {
            self.leave(leave).await;
        }
    }

    /// Cancel safe: a heartbeat that was on its way may or may not have been taken.
    async fn heartbeat_and_wait(&mut self) {
        let started = Instant::now();
        let wanted = self.condition.borrow_and_update().clone();
        let condition = self.remarks.say(&wanted, started);
        let result = self.heartbeat(condition).await;
        let ended = Instant::now();
        let verdict = self.note(ended, result);
        let draw = rand::rng().random_range(0.0..=1.0);
        let next = self.schedule.next(verdict, started, ended, draw);
        self.wait(ended, next).await;
    }

    async fn heartbeat(&mut self, condition: Condition) -> Result<Accepted, HeartbeatError> {
        let whole = self.schedule.heartbeat_deadline(self.registries.len());
        let limits = Limits { attempt: self.schedule.attempt_deadline(), whole };
        let identity = self.identify().await.map_err(HeartbeatError::Advertise)?;
        // First of all: a registry may ask for it while it takes the heartbeat.
        let key = InstanceKey::new(self.service.clone(), identity.instance.clone());
        self.announcement.details.proof.announce(key);
        self.replace_announced(&identity, limits.attempt).await;
        self.send(identity, condition, limits).await
    }

    async fn identify(&mut self) -> Result<Identity, AdvertiseError> {
        let address = self.advertise.address().await?;
        let instance = match &self.instance_id {
            Some(id) => id.clone(),
            None => address.instance_id().map_err(AdvertiseError::Listen)?,
        };
        Ok(Identity { address, instance })
    }

    /// One heartbeat: each registry is asked at most once, until one takes it. Otherwise the error that says most.
    pub(crate) async fn send(
        &mut self,
        Identity { address, instance }: Identity,
        condition: Condition,
        limits: Limits,
    ) -> Result<Accepted, HeartbeatError> {
        let until = Instant::now() + limits.whole;
        let status = condition.status();
        let mut heartbeat = self.announcement.heartbeat(address.clone(), &condition);
        let mut failure = None;
        for index in self.registries.order(Instant::now()) {
            let sent = Instant::now();
            let deadline = limits.attempt.min(until.saturating_duration_since(sent));
            if deadline.is_zero() {
                break;
            }
            let registry = self.urls[index].clone();
            // Until the answer is there, and for good if this is cancelled.
            let was_in_doubt = std::mem::replace(&mut self.in_doubt, true);
            let attempt = self.ask(index, &instance, &mut heartbeat, sent + deadline).await;
            self.in_doubt = was_in_doubt || attempt.as_ref().is_err_and(HeartbeatError::is_in_doubt);
            self.announcement.details.metrics.count(&attempt);
            match attempt {
                Ok(reply) => {
                    self.registries.worked(index);
                    return Ok(Accepted { registry, address, instance, status, sent, reply });
                }
                // What any of them would say: it is in etcd.
                Err(error @ (HeartbeatError::AnotherIncarnation { .. } | HeartbeatError::IncarnationEnded { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    self.rank(index, &error);
                    failure = Some(most_useful_error(failure, error));
                }
            }
        }
        Err(failure.unwrap_or(HeartbeatError::BackedOff))
    }

    /// After a change of the address, and with it of the id, takes back what was announced before. If no registry
    /// answers that, it expires.
    async fn replace_announced(&mut self, now: &Identity, deadline: Duration) {
        match self.announced.replace(now.clone()) {
            Some(before) if before.instance != now.instance => {
                let before = before.instance;
                let instance = &now.instance;
                tracing::info!(service = %self.service, %before, %instance, "the address of this instance has changed");
                self.delete(&before, Limits { attempt: deadline, whole: deadline }).await;
                self.lives.renew();
            }
            _ => {}
        }
    }

    /// Deregisters `instance`, if this life of ours holds the id, at the first registry that takes it. Whether one did.
    pub(crate) async fn delete(&mut self, instance: &InstanceId, limits: Limits) -> bool {
        let until = Instant::now() + limits.whole;
        for index in self.registries.order(Instant::now()) {
            let deadline = limits.attempt.min(until.saturating_duration_since(Instant::now()));
            if deadline.is_zero() {
                break;
            }
            let registry = &self.urls[index];
            let of = (&self.service, instance);
            match self.client.delete(registry, of, self.lives.incarnation(), deadline).await {
                Ok(()) => return true,
                Err(error) => self.rank(index, &error),
            }
        }
        false
    }

    /// Remembers that the registry at `index` did not take a heartbeat.
    pub(crate) fn rank(&mut self, index: usize, error: &HeartbeatError) {
        let now = Instant::now();
        tracing::debug!(service = %self.service, error = %service_kit::chain(error), "heartbeat not accepted");
        match error {
            HeartbeatError::Busy { retry_after, .. } => {
                let until = now + self.schedule.held(*retry_after, rand::rng().random_range(0.0..=1.0));
                self.registries.asked_to_wait(index, now, until);
            }
            _ => self.registries.failed(index, now),
        }
    }

    /// Enters the outcome into the registration, publishes the state, and says what it means for the next one.
    fn note(&mut self, now: Instant, result: Result<Accepted, HeartbeatError>) -> Verdict {
        let (verdict, changes) = match result {
            Ok(accepted) => {
                let next = self.schedule.wish(&accepted.reply);
                (Verdict::Accepted { next }, self.registration.accepted(now, accepted))
            }
            Err(error) => {
                let verdict = match &error {
                    HeartbeatError::AnotherIncarnation { .. } => Verdict::Displaced,
                    error if error.is_transient() => Verdict::Failed,
                    _ => Verdict::Refused,
                };
                (verdict, self.registration.failed(now, error))
            }
        };
        self.publish(&changes);
        verdict
    }

    pub(crate) fn publish(&self, changes: &[Change]) {
        let metrics = &self.announcement.details.metrics;
        for change in changes {
            log_events::log(&self.service, self.registration.state(), *change);
            match change {
                Change::Lost => _ = metrics.lost.inc(),
                Change::Moved => _ = metrics.moves.inc(),
                Change::Displaced => _ = metrics.displaced.inc(),
                _ => {}
            }
        }
        metrics.registered.set(self.registration.state().registered.into());
        self.state.send_replace(self.registration.state().clone());
    }

    /// Waits until `next`, or until a changed condition may be said; notices meanwhile when the registration ends.
    async fn wait(&mut self, ended: Instant, mut next: Instant) {
        let held_until = self.registries.held_until(ended).unwrap_or(ended);
        let mut is_held = true;
        loop {
            let now = Instant::now();
            if let Some(due) = self.remarks.due(&self.condition.borrow_and_update(), now) {
                next = next.min(Schedule::at_once(ended, due));
            }
            next = next.max(held_until);
            let expires = self.registration.expires();
            tokio::select! {
                () = sleep_until(next) => return,
                changed = self.condition.changed(), if is_held => is_held = changed.is_ok(),
                () = sleep_until(expires.unwrap_or(next)), if expires.is_some() => {
                    let change = self.registration.passed(Instant::now());
                    self.publish(change.as_slice());
                }
            }
        }
    }
}

/// Of two failures of the same heartbeat, the one that says most: that the registration holds, or may, and then that a
/// registry may come back, which decides how soon to try again. Of equals, the last one.
fn most_useful_error(before: Option<HeartbeatError>, error: HeartbeatError) -> HeartbeatError {
    let says = |error: &HeartbeatError| (error.holds().is_some(), error.is_in_doubt(), error.is_transient());
    match before {
        Some(before) if says(&before) > says(&error) => before,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, extract::Request};

    use super::*;

    /// A registry that takes everything and writes down what.
    async fn registry() -> (RegistryUrl, Arc<Mutex<Vec<String>>>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&log);
        let router = Router::new().fallback(move |request: Request| {
            let id = request.uri().path().rsplit('/').next().unwrap().to_owned();
            written.lock().unwrap().push(format!("{} {id}", request.method()));
            let reply = r#"{"ttl_ms":5000,"next_heartbeat_ms":2000,"status":"passing","revision":1}"#;
            std::future::ready(Json(serde_json::from_str::<serde_json::Value>(reply).unwrap()))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        (url, log)
    }

    #[tokio::test]
    async fn after_a_change_of_the_address_the_old_registration_is_taken_back() {
        let (url, log) = registry().await;
        let options = HeartbeatOptions::for_registries(vec![url]);
        let (_condition, condition) = watch::channel(Condition::default());
        let listen = "0.0.0.0:7070".parse().unwrap();
        let (mut task, _state) = Task::new("mail".parse().unwrap(), listen, &options, Details::default(), condition);
        // This one is ours, but another is found when it is gone; 192.0.2.1 is unassigned (RFC 5737).
        task.advertise.pretend("127.0.0.2".parse().unwrap());
        task.heartbeat(Condition::default()).await.unwrap();
        task.heartbeat(Condition::default()).await.unwrap();
        task.advertise.pretend("192.0.2.1".parse().unwrap());
        task.heartbeat(Condition::default()).await.unwrap();
        let expected = ["PUT 127.0.0.2:7070", "PUT 127.0.0.2:7070", "DELETE 127.0.0.2:7070", "PUT 127.0.0.1:7070"];
        assert_eq!(*log.lock().unwrap(), expected);
    }
}
