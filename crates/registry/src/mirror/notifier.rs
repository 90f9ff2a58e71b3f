//! Change notification: one channel a topic, created by its first subscriber and removed with its last.

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

/// The channels of all topics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ChangeNotifier(Arc<Mutex<HashMap<Topic, watch::Sender<()>>>>);

/// A subscription to one topic. The channel is removed with its last subscription.
#[derive(Debug)]
pub struct Subscription {
    topic: Topic,
    /// `None` only while it is dropped.
    receiver: Option<watch::Receiver<()>>,
    notifier: ChangeNotifier,
}

// === impl ChangeNotifier ===

impl ChangeNotifier {
    /// Subscribes to `topic`.
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        let receiver = Some(self.lock().entry(topic.clone()).or_insert_with(|| watch::Sender::new(())).subscribe());
        Subscription { topic, receiver, notifier: self.clone() }
    }

    /// Wakes the subscribers of `topics`.
    pub fn notify(&self, topics: impl IntoIterator<Item = Topic>) {
        let notifier = self.lock();
        topics.into_iter().filter_map(|topic| notifier.get(&topic)).for_each(|sender| sender.send_replace(()));
    }

    /// Wakes every subscriber.
    pub fn notify_all(&self) {
        self.lock().values().for_each(|sender| sender.send_replace(()));
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

    /// Returns when the topic has changed since the subscription, or since this last returned. Cancel safe.
    pub async fn changed(&mut self) {
        let receiver = self.receiver.as_mut().expect("it is there until this is dropped");
        // The sender lives in the map as long as there is a receiver.
        receiver.changed().await.expect("the channel is removed with its last receiver, and this is one");
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut notifier = self.notifier.lock();
        self.receiver = None;
        if notifier.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            notifier.remove(&self.topic);
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
    async fn a_change_wakes_the_subscribers_of_its_topic_and_no_others() {
        let notifier = ChangeNotifier::default();
        let mut mail_waiter = notifier.subscribe(mail());
        let mut services_waiter = notifier.subscribe(Topic::Services);
        notifier.notify([mail()]);
        mail_waiter.changed().await;
        assert!(timeout(Duration::from_secs(60), services_waiter.changed()).await.is_err());
        assert!(timeout(Duration::from_secs(60), mail_waiter.changed()).await.is_err(), "notified once, woken once");
        notifier.notify_all();
        mail_waiter.changed().await;
        services_waiter.changed().await;
    }

    #[tokio::test]
    async fn the_channel_is_removed_with_its_last_subscription() {
        let notifier = ChangeNotifier::default();
        let one = notifier.subscribe(mail());
        let other = notifier.subscribe(mail());
        assert_eq!(notifier.waiting(), 2);
        drop(one);
        assert_eq!(notifier.lock().len(), 1);
        drop(other);
        assert_eq!(notifier.lock().len(), 0);
    }
}
