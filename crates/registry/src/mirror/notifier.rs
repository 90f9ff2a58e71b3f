//! Who is woken by what: one bell a topic, hung up by the first who waits for it and taken down by the last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use discovery::{ServiceName, SettingKey};
use tokio::sync::watch;

/// What one can wait for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Which services there are, and which tags they have.
    Services,
    /// Anything about one service.
    Service(ServiceName),
    /// One setting of the config centre.
    Setting(SettingKey),
}

/// All the bells. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Bells(Arc<Mutex<HashMap<Topic, watch::Sender<()>>>>);

/// A place at one bell. Dropping it leaves; the last one to leave takes the bell down.
#[derive(Debug)]
pub struct Subscription {
    topic: Topic,
    /// `None` only while it is dropped.
    receiver: Option<watch::Receiver<()>>,
    bells: Bells,
}

// === impl Bells ===

impl Bells {
    /// Waits at the bell of `topic`.
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        let receiver = Some(self.lock().entry(topic.clone()).or_insert_with(|| watch::Sender::new(())).subscribe());
        Subscription { topic, receiver, bells: self.clone() }
    }

    /// Wakes everybody who waits for one of `topics`.
    pub fn ring(&self, topics: impl IntoIterator<Item = Topic>) {
        let bells = self.lock();
        topics.into_iter().filter_map(|topic| bells.get(&topic)).for_each(|bell| bell.send_replace(()));
    }

    /// Wakes everybody.
    pub fn ring_all(&self) {
        self.lock().values().for_each(|bell| bell.send_replace(()));
    }

    /// How many wait, over all topics.
    pub fn waiting(&self) -> usize {
        self.lock().values().map(watch::Sender::receiver_count).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Subscription ===

impl Subscription {
    /// What this waits for.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns when the bell has been rung since the subscription, or since this last returned. May be cancelled.
    pub async fn rung(&mut self) {
        let receiver = self.receiver.as_mut().expect("it is there until this is dropped");
        // The sender lives in the map as long as there is a receiver.
        receiver.changed().await.expect("the last receiver takes the bell down, and this is one");
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut bells = self.bells.lock();
        self.receiver = None;
        if bells.get(&self.topic).is_some_and(|bell| bell.receiver_count() == 0) {
            bells.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn mail() -> Topic {
        Topic::Service("mail".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_wakes_those_who_wait_for_it_and_nobody_else() {
        let bells = Bells::default();
        let (mut mail_waiter, mut services_waiter) = (bells.subscribe(mail()), bells.subscribe(Topic::Services));
        bells.ring([mail()]);
        mail_waiter.rung().await;
        assert!(timeout(Duration::from_secs(60), services_waiter.rung()).await.is_err());
        assert!(timeout(Duration::from_secs(60), mail_waiter.rung()).await.is_err(), "rung once, woken once");
        bells.ring_all();
        mail_waiter.rung().await;
        services_waiter.rung().await;
    }

    #[tokio::test]
    async fn the_last_to_leave_takes_the_bell_down() {
        let bells = Bells::default();
        let (one, other) = (bells.subscribe(mail()), bells.subscribe(mail()));
        assert_eq!(bells.waiting(), 2);
        drop(one);
        assert_eq!(bells.lock().len(), 1);
        drop(other);
        assert_eq!(bells.lock().len(), 0);
    }
}
