//! What a watcher of etcd sees: which keys of living instances vanished, and for how long.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use discovery::{InstanceKey, Update};
use discovery_etcd::{Etcd, EtcdOptions, WatchOptions, watch};
use futures::StreamExt as _;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A watch that goes on until [`KeyWatch::stop`].
pub(crate) struct KeyWatch {
    stop: CancellationToken,
    task: JoinHandle<Vec<Option<Duration>>>,
}

impl KeyWatch {
    /// Watches through these members, which are not frozen: so no event is missed. Returns once it has begun.
    pub(crate) async fn start(endpoints: &[String]) -> Self {
        let etcd = Etcd::new(&EtcdOptions::at(endpoints)).unwrap();
        let stop = CancellationToken::new();
        let (begun, has_begun) = oneshot::channel();
        let task = tokio::spawn(follow(etcd, stop.clone(), begun));
        has_begun.await.unwrap();
        Self { stop, task }
    }

    /// How long each key that vanished was not there; `None`: it is not back yet.
    pub(crate) async fn stop(self) -> Vec<Option<Duration>> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn follow(etcd: Etcd, stop: CancellationToken, begun: oneshot::Sender<()>) -> Vec<Option<Duration>> {
    let mut changes = watch(etcd, WatchOptions::default());
    let mut begun = Some(begun);
    let (mut vanished, mut gaps) = (BTreeMap::<InstanceKey, Instant>::new(), Vec::new());
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => break,
            change = changes.next() => change.unwrap(),
        };
        for update in change.updates {
            match update {
                Update::Remove(key) => drop(vanished.insert(key, Instant::now())),
                Update::Add(one) => gaps.extend(vanished.remove(&one.key).map(|at| Some(at.elapsed()))),
                Update::Reset(_) => {}
            }
        }
        if let Some(begun) = begun.take() {
            begun.send(()).unwrap();
        }
    }
    gaps.extend(vanished.into_values().map(|_| None));
    gaps
}
