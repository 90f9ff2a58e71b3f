//! The same instance in other systems' words: with its native key, in one transaction, under one lease.

use std::collections::BTreeMap;

use discovery::{Dialect, Incarnation, Instance, InstanceKey, LeaseId, Override, Status};
use discovery_etcd::{Claim, Etcd};
use etcd_client::{Client, GetOptions, PutOptions};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::parts::{etcd, instance, key, leases, long_ttl, raw};

/// Traefik's keys of a service, which stay.
const KEPT: [&str; 5] = [
    "traefik/http/middlewares/mail/stripprefix/prefixes/0",
    "traefik/http/routers/mail/middlewares/0",
    "traefik/http/routers/mail/rule",
    "traefik/http/routers/mail/service",
    "traefik/http/services/mail/loadbalancer/passhostheader",
];

async fn one_member() -> (EtcdCluster, Etcd, Client) {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster).with_dialects(Dialect::ALL);
    let raw = raw(&cluster, 0).await;
    (cluster, etcd, raw)
}

/// Everything that stands in etcd: value, lease and the revision of its writing.
async fn all(raw: &mut Client) -> BTreeMap<String, (String, i64, i64)> {
    let listed = raw.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let entry = |kv: &etcd_client::KeyValue| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(kv.key()), (text(kv.value()), kv.lease(), kv.mod_revision()))
    };
    listed.kvs().iter().map(entry).collect()
}

/// The keys of `mail/a` in other systems' words.
async fn views(raw: &mut Client) -> Vec<String> {
    let foreign = |key: &String| !key.starts_with("service/") && !key.starts_with("override/");
    all(raw).await.into_keys().filter(|key| foreign(key) && !KEPT.contains(&key.as_str())).collect()
}

async fn claim(etcd: &Etcd, key: &InstanceKey, instance: &Instance) -> discovery_etcd::Registration {
    match etcd.claim(key, instance, long_ttl(), None).await.unwrap() {
        Claim::Registered(registration) => registration,
        Claim::Taken(held) => panic!("taken: {held:?}"),
    }
}

#[tokio::test]
async fn every_view_is_written_by_the_transaction_and_the_lease_of_the_native_key() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let registration = claim(&etcd, &key("mail/a"), &instance("10.0.0.5:7070")).await;
    let all = all(&mut raw).await;
    assert_eq!(all["grpc/mail/a"].0, r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}"#);
    assert_eq!(all.len(), 1 + 4 + KEPT.len(), "{all:?}");
    for (key, (_, lease, modified)) in &all {
        let expected = if KEPT.contains(&key.as_str()) { 0 } else { registration.lease.0 };
        assert_eq!((*lease, *modified), (expected, registration.revision.0), "{key}");
    }
}

#[tokio::test]
async fn a_change_is_a_change_in_every_view_at_the_same_revision() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let key = key("mail/a");
    let heavy = instance("http://10.0.0.6:7070?weight=2");
    let lease = claim(&etcd, &key, &instance("10.0.0.5:7070")).await.lease;
    let revision = etcd.update(&key, &heavy, lease).await.unwrap();
    let now = all(&mut raw).await;
    for (path, (value, held, modified)) in now.iter().filter(|(path, _)| !KEPT.contains(&path.as_str())) {
        assert!(value.contains("10.0.0.6") || path.ends_with("/weight"), "{path} {value}");
        assert_eq!((*held, *modified), (lease.0, revision.0), "{path}");
    }
    let weights = |keys: Vec<String>| keys.into_iter().filter(|key| key.ends_with("/weight")).count();
    assert_eq!(weights(views(&mut raw).await), 1);
    etcd.update(&key, &instance("10.0.0.6:7070"), lease).await.unwrap();
    assert_eq!(weights(views(&mut raw).await), 0, "a field that is no longer said is gone from the view");
}

#[tokio::test]
async fn deregistering_takes_every_view_away_and_leaves_no_lease() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let key = key("mail/a");
    claim(&etcd, &key, &instance("10.0.0.5:7070")).await;
    etcd.deregister(&key, None).await.unwrap();
    assert_eq!(all(&mut raw).await.into_keys().collect::<Vec<_>>(), KEPT);
    wait_until("the lease is revoked", SOON, || {
        let mut raw = raw.clone();
        async move { leases(&mut raw).await.is_empty() }
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_lease_ends_every_view() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let lease = claim(&etcd, &key("mail/a"), &instance("10.0.0.5:7070")).await.lease;
    raw.lease_revoke(lease.0).await.unwrap();
    assert_eq!(all(&mut raw).await.into_keys().collect::<Vec<_>>(), KEPT);
}

#[tokio::test]
async fn an_instance_that_drains_leaves_its_views_and_comes_back_to_them() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let key = key("mail/a");
    let passing = instance("10.0.0.5:7070");
    let lease = claim(&etcd, &key, &passing).await.lease;
    for status in [Status::Draining, Status::Critical] {
        etcd.update(&key, &Instance { status, ..passing.clone() }, lease).await.unwrap();
        assert!(views(&mut raw).await.is_empty());
        assert!(all(&mut raw).await.contains_key("service/mail/a"));
        etcd.update(&key, &passing, lease).await.unwrap();
        assert_eq!(views(&mut raw).await.len(), 4);
    }
}

#[tokio::test]
async fn an_operators_drain_keeps_an_instance_out_of_its_views() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let key = key("mail/a");
    etcd.put_override(&key, Status::Draining).await.unwrap();
    let lease = claim(&etcd, &key, &instance("10.0.0.5:7070")).await.lease;
    assert!(views(&mut raw).await.is_empty(), "the registering client does not know of the override; etcd does");
    etcd.update(&key, &instance("10.0.0.6:7070"), lease).await.unwrap();
    assert!(views(&mut raw).await.is_empty());
    etcd.delete_override(&key).await.unwrap();
    assert!(etcd.repair_dialect_keys(&key, lease).await.unwrap());
    assert_eq!(views(&mut raw).await.len(), 4);
    etcd.put_override(&key, Status::Draining).await.unwrap();
    assert!(etcd.repair_dialect_keys(&key, lease).await.unwrap());
    assert!(views(&mut raw).await.is_empty());
}

#[tokio::test]
async fn a_drain_of_another_life_does_not_affect_the_views() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let key = key("mail/a");
    let passing = instance("10.0.0.5:7070");
    let lease = claim(&etcd, &key, &passing).await.lease;
    let of = |lease: i64, author: Option<&str>| Override {
        incarnation: Some(Incarnation(LeaseId(lease))),
        author: author.map(str::to_owned),
        ..Override::from(Status::Draining)
    };
    // Before it and behind it in etcd's order of values.
    for other in [lease.0 - 1, lease.0 + 1, 1, i64::MAX] {
        for author in [None, Some("kim"), Some("~")] {
            etcd.put_override(&key, of(other, author)).await.unwrap();
            etcd.repair_dialect_keys(&key, lease).await.unwrap();
            etcd.update(&key, &Instance { zone: Some("b".into()), ..passing.clone() }, lease).await.unwrap();
            assert_eq!(views(&mut raw).await.len(), 4, "{other} {author:?}");
            etcd.put_override(&key, of(lease.0, author)).await.unwrap();
            etcd.update(&key, &passing, lease).await.unwrap();
            assert!(views(&mut raw).await.is_empty(), "{other} {author:?}");
            assert!(!etcd.repair_dialect_keys(&key, lease).await.unwrap(), "as it should be");
        }
    }
    for other in ["draining?author=kim", "draining?at_ms=1", "nonsense"] {
        raw.put(key.override_key(), other, None).await.unwrap();
        etcd.repair_dialect_keys(&key, lease).await.unwrap();
        assert!(views(&mut raw).await.is_empty(), "{other}");
    }
    etcd.delete_override(&key).await.unwrap();
    assert!(etcd.repair_dialect_keys(&key, lease).await.unwrap());
}

#[tokio::test]
async fn views_that_are_out_of_step_are_set_right_and_others_are_left_alone() {
    let (cluster, speaking, mut raw) = one_member().await;
    let key = key("mail/a");
    let lease = claim(&etcd(&cluster), &key, &instance("10.0.0.5:7070")).await.lease;
    assert!(views(&mut raw).await.is_empty(), "registered by a registry that speaks no dialect");
    assert!(speaking.repair_dialect_keys(&key, lease).await.unwrap());
    let right = all(&mut raw).await;
    assert!(!speaking.repair_dialect_keys(&key, lease).await.unwrap(), "nothing to do");
    assert_eq!(all(&mut raw).await, right, "and nothing written");

    raw.delete("grpc/mail/a", None).await.unwrap();
    assert!(speaking.repair_dialect_keys(&key, lease).await.unwrap());
    raw.put("grpc/mail/a", "nonsense", Some(PutOptions::new().with_lease(lease.0))).await.unwrap();
    assert!(speaking.repair_dialect_keys(&key, lease).await.unwrap());
    raw.put("grpc/mail/a", right["grpc/mail/a"].0.as_str(), None).await.unwrap();
    assert!(
        speaking.repair_dialect_keys(&key, lease).await.unwrap(),
        "without the lease it would outlive the instance"
    );
    let values = |all: BTreeMap<String, (String, i64, i64)>| -> Vec<(String, String, i64)> {
        all.into_iter().map(|(key, (value, lease, _))| (key, value, lease)).collect()
    };
    assert_eq!(values(all(&mut raw).await), values(right));
}

#[tokio::test]
async fn what_an_operator_wrote_for_a_service_is_not_overwritten() {
    let (_cluster, etcd, mut raw) = one_member().await;
    raw.put("traefik/http/routers/mail/rule", "Host(`mail.example`)", None).await.unwrap();
    let lease = claim(&etcd, &key("mail/a"), &instance("10.0.0.5:7070")).await.lease;
    etcd.update(&key("mail/a"), &instance("10.0.0.6:7070"), lease).await.unwrap();
    assert!(!etcd.repair_dialect_keys(&key("mail/a"), lease).await.unwrap());
    assert_eq!(all(&mut raw).await["traefik/http/routers/mail/rule"].0, "Host(`mail.example`)");
}

#[tokio::test]
async fn an_instance_that_has_found_another_lease_is_left_alone() {
    let (_cluster, etcd, mut raw) = one_member().await;
    let key = key("mail/a");
    let old = claim(&etcd, &key, &instance("10.0.0.5:7070")).await.lease;
    etcd.register(&key, &instance("10.0.0.6:7070"), long_ttl()).await.unwrap();
    let now = all(&mut raw).await;
    assert!(!etcd.repair_dialect_keys(&key, old).await.unwrap());
    assert_eq!(all(&mut raw).await, now);
}
