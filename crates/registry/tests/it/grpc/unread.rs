//! A client that reads no reply has no heartbeat taken behind it, and holds up no other client.

use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tonic::transport::Endpoint;

use super::{Beats, Client, RegistryClient, heartbeat};
use crate::{
    counting::total,
    support::{Registry, metric},
};

const STREAMS: u32 = 16;

/// A client that gives no reply any room.
async fn that_reads_nothing(registry: &Registry) -> Client {
    let endpoint = Endpoint::from_shared(registry.url.clone()).unwrap().initial_stream_window_size(0);
    Client { calls: RegistryClient::new(endpoint.connect().await.unwrap()), token: None }
}

/// How many heartbeats have come to something.
async fn taken(registry: &Registry) -> f64 {
    total(registry, "registry_heartbeats_total").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_reply_that_is_not_read_no_heartbeat_is_under_way() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = that_reads_nothing(&registry).await;
    let open = async |n: u32| -> Beats {
        let beats = client.register().await.unwrap();
        for _ in 0..2 {
            beats.heartbeats.send(heartbeat(&format!("mail/{n}"), "")).await.unwrap();
        }
        beats
    };
    let unread = join_all((0..STREAMS).map(open)).await;
    wait_until("each has an answer", SOON, async || taken(&registry).await >= f64::from(STREAMS)).await;
    // Sooner than the streams are ended because nothing of them is read.
    wait_until("nothing is under way", SOON, async || metric(&registry, "registry_requests_under_way").await == 0.0)
        .await;
    assert_eq!(taken(&registry).await, f64::from(STREAMS), "the next one is read when the answer is sent");
    registry.beat("web/a", r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).await;
    drop(unread);
}
