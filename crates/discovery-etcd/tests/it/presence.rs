//! Processes that say that they are present.

use discovery::Ttl;
use testkit::etcd::EtcdCluster;

use crate::parts::{etcd, long_ttl};

const PREFIX: &str = "lock/sample/";

#[tokio::test]
async fn what_a_process_says_of_itself_changes_under_its_lease_and_goes_with_it() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let key = format!("{PREFIX}a");
    let lease = etcd.campaign(&key, "one", long_ttl()).await.unwrap().expect("the key is free");
    let listed = async || {
        let keys = etcd.list_foreign(PREFIX).await.unwrap().keys;
        keys.into_iter().map(|one| (String::from_utf8(one.value).unwrap(), one.lease)).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [("one".to_owned(), Some(lease))]);
    assert!(etcd.restate(&key, "two", lease).await.unwrap());
    assert!(etcd.restate(&key, "two", lease).await.unwrap(), "the same again is no change");
    assert_eq!(listed().await, [("two".to_owned(), Some(lease))]);
    etcd.resign(&key, lease).await.unwrap();
    assert_eq!(listed().await, []);
    assert!(!etcd.restate(&key, "three", lease).await.unwrap(), "its lease has ended");
    assert_eq!(listed().await, []);
}

#[tokio::test]
async fn one_whose_lease_ended_writes_nothing_over_its_successor() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let key = format!("{PREFIX}a");
    let first = etcd.campaign(&key, "first", Ttl::MIN).await.unwrap().expect("the key is free");
    etcd.resign(&key, first).await.unwrap();
    etcd.campaign(&key, "second", long_ttl()).await.unwrap().expect("the first is gone");
    assert!(!etcd.restate(&key, "first again", first).await.unwrap());
    assert_eq!(etcd.election_note(&key).await.unwrap().as_deref(), Some("second"));
}
