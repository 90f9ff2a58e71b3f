//! etcd whose database has reached its quota: it reads, deletes and keeps leases alive, and writes nothing.

use discovery_etcd::{CallError, Etcd, EtcdOptions, FailureClass};
use testkit::etcd::{EtcdCluster, EtcdConfig};
use tokio::time::Instant;

use crate::parts::{instance, key, long_ttl, patient};

async fn cluster() -> EtcdCluster {
    let args = ["--quota-backend-bytes", "4194304"].map(str::to_owned).to_vec();
    EtcdCluster::with(EtcdConfig { members: 1, args, ..EtcdConfig::default() }).await
}

#[tokio::test]
async fn a_full_etcd_is_asked_once_and_its_own_words_are_the_answer() {
    let cluster = cluster().await;
    let etcd = Etcd::new(&EtcdOptions { etcd_deadline: patient(&cluster).etcd_deadline, ..patient(&cluster) }).unwrap();
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    etcd.put_override(&key("mail/a"), discovery::Status::Draining).await.unwrap();
    assert_eq!(etcd.writes().trouble(Instant::now()), None);
    cluster.fill();

    let granted = cluster.calls(0, "Lease", "LeaseGrant").await;
    let error = etcd.register(&key("mail/b"), &instance("b:1"), long_ttl()).await.unwrap_err();
    assert_eq!(error.cause().map(CallError::class), Some(FailureClass::Lasts));
    let text = service_kit::chain(&error).to_string();
    assert!(text.contains("database space exceeded"), "{text}");
    let advice = error.cause().and_then(CallError::advice).unwrap();
    assert!(advice.contains("defrag") && advice.contains("alarm disarm"), "{advice}");
    assert_eq!(cluster.calls(0, "Lease", "LeaseGrant").await - granted, 1.0);

    etcd.keep_alive(lease).await.unwrap();
    assert!(etcd.update(&key("mail/a"), &instance("a:2"), lease).await.is_err());
    assert!(etcd.delete_override(&key("mail/a")).await.unwrap(), "a deletion needs no room");
    assert!(etcd.writes().trouble(Instant::now()).is_some_and(|trouble| trouble.lasts()), "and shows none");
    assert!(etcd.probe_writes().await.is_err());

    cluster.make_room();
    etcd.probe_writes().await.unwrap();
    assert_eq!(etcd.writes().trouble(Instant::now()), None);
    etcd.update(&key("mail/a"), &instance("a:2"), lease).await.unwrap();
}

#[tokio::test]
async fn an_alarm_is_found_before_anything_is_written() {
    let cluster = cluster().await;
    cluster.fill();
    let etcd = Etcd::new(&patient(&cluster)).unwrap();
    assert_eq!(etcd.writes().trouble(Instant::now()), None);
    etcd.look_for_alarms().await;
    let trouble = etcd.writes().trouble(Instant::now()).expect("the alarm");
    assert!(trouble.lasts() && trouble.error.answer().contains("NOSPACE"), "{trouble:?}");
}
