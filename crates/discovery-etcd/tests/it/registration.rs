use std::time::Duration;

use discovery::{Incarnation, LeaseId, Override, Revision, Status};
use discovery_etcd::{Etcd, EtcdError, EtcdOptions};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::time::{Instant, timeout};

use crate::parts::{etcd, instance, key, leases, leases_in_use, long_ttl, no_lease_is_left, raw};

#[tokio::test]
async fn what_is_registered_is_listed_as_plain_text_under_its_lease() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let draining = instance("http://10.0.0.5:7070?status=draining");
    let registration = etcd.register(&key("mail/a"), &draining, long_ttl()).await.unwrap();
    let listed = etcd.snapshot().await.unwrap();
    assert_eq!(listed.revision, registration.revision);
    let [registered] = listed.instances.as_slice() else { panic!("one instance: {listed:?}") };
    assert_eq!((&registered.key, &registered.instance), (&key("mail/a"), &draining));
    assert_eq!((registered.lease, registered.modified), (Some(registration.lease), registration.revision));
    let value = cluster.etcdctl(&["get", "service/mail/a", "--print-value-only"]);
    assert_eq!(value, "http://10.0.0.5:7070?status=draining\n");
}

#[tokio::test]
async fn registering_again_leaves_one_lease() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    let first = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    let second = etcd.register(&key("mail/a"), &instance("a:2"), long_ttl()).await.unwrap();
    assert_ne!(first.lease, second.lease);
    wait_until("one lease", SOON, || {
        let mut raw = raw.clone();
        async move { leases(&mut raw).await == [second.lease.0].into() }
    })
    .await;
    // A lease that still holds a key is in use.
    raw.lease_grant(600, Some(etcd_client::LeaseGrantOptions::new().with_id(77))).await.unwrap();
    let shared = || Some(etcd_client::PutOptions::new().with_lease(77));
    raw.put("service/web/a", "a:1", shared()).await.unwrap();
    raw.put("service/web/b", "b:1", shared()).await.unwrap();
    etcd.register(&key("web/a"), &instance("a:2"), long_ttl()).await.unwrap();
    etcd.deregister(&key("web/a"), None).await.unwrap();
    wait_until("the lease of web/a to be tidied", SOON, || {
        let mut raw = raw.clone();
        async move { leases(&mut raw).await == [second.lease.0, 77].into() }
    })
    .await;
    assert_eq!(etcd.snapshot().await.unwrap().instances.len(), 2, "mail/a and web/b");
}

#[tokio::test]
async fn a_registration_cancelled_at_any_moment_leaves_no_lease_behind() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let raw = raw(&cluster, 0).await;
    let began = Instant::now();
    etcd.register(&key("mail/whole"), &instance("a:1"), long_ttl()).await.unwrap();
    let whole = began.elapsed();
    for step in 0..40_u32 {
        let path = format!("mail/{step}");
        // Whether it was in time is not the question.
        let _ = timeout(whole * step / 30, etcd.register(&key(&path), &instance("a:1"), long_ttl())).await;
    }
    wait_until("as many leases as instances", SOON, || {
        let etcd = etcd.clone();
        let mut raw = raw.clone();
        async move { leases(&mut raw).await == leases_in_use(&etcd).await }
    })
    .await;
}

#[tokio::test]
async fn an_update_changes_the_value_under_the_same_lease_and_the_same_value_changes_nothing() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    let changed = instance("http://a:1?weight=2");
    let revision = etcd.update(&key("mail/a"), &changed, lease).await.unwrap();
    assert_eq!(etcd.update(&key("mail/a"), &changed, lease).await.unwrap(), revision, "nothing new");
    let listed = etcd.snapshot().await.unwrap();
    assert_eq!((listed.revision, &listed.instances[0].instance), (revision, &changed));
    assert_eq!(listed.instances[0].lease, Some(lease));
}

#[tokio::test]
async fn an_update_says_when_the_registration_is_gone() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let key = key("mail/a");
    let changed = instance("a:2");
    let lease = etcd.register(&key, &instance("a:1"), long_ttl()).await.unwrap().lease;
    cluster.etcdctl(&["del", "service/mail/a"]);
    let error = etcd.update(&key, &changed, lease).await.unwrap_err();
    assert!(matches!(error, EtcdError::NotRegistered { .. }), "a third party deleted the key: {error:?}");
    let error = etcd.update(&key, &changed, LeaseId(12345)).await.unwrap_err();
    assert!(matches!(error, EtcdError::NotRegistered { .. }), "a lease that never was: {error:?}");
    assert!(etcd.snapshot().await.unwrap().instances.is_empty(), "nothing was written");
}

#[tokio::test]
async fn deregistering_takes_effect_at_once_and_may_be_repeated() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    for known in [true, false] {
        let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
        let revision = etcd.deregister(&key("mail/a"), known.then_some(lease)).await.unwrap();
        assert!(revision > Revision::default());
        assert!(etcd.snapshot().await.unwrap().instances.is_empty(), "the lease was known: {known}");
        etcd.deregister(&key("mail/a"), Some(lease)).await.unwrap();
        etcd.deregister(&key("mail/a"), None).await.unwrap();
    }
    no_lease_is_left(&raw).await;
    raw.put("service/mail", "a:1", None).await.unwrap();
    etcd.deregister(&key("mail"), None).await.unwrap();
    assert!(etcd.snapshot().await.unwrap().instances.is_empty(), "a key without a lease goes as well");
}

#[tokio::test]
async fn a_caller_that_does_not_know_the_newest_lease_deregisters_all_the_same() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let raw = raw(&cluster, 0).await;
    let old = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    etcd.deregister(&key("mail/a"), Some(old)).await.unwrap();
    assert!(etcd.snapshot().await.unwrap().instances.is_empty());
    no_lease_is_left(&raw).await;
}

#[tokio::test]
async fn an_instance_that_could_not_be_read_back_is_not_written() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    let mut bad = instance("a:1");
    bad.zone = Some("a\nb".into());
    let error = etcd.register(&key("mail/a"), &bad, long_ttl()).await.unwrap_err();
    assert!(matches!(&error, EtcdError::Invalid { source, .. } if source.field == "zone"), "{error:?}");
    assert!(!error.is_transient());
    assert!(leases(&mut raw).await.is_empty());
}

#[tokio::test]
async fn overrides_outlive_their_instance() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let first = etcd.put_override(&key("mail/a"), Status::Draining).await.unwrap();
    assert_eq!(etcd.put_override(&key("mail/a"), Status::Draining).await.unwrap(), first, "nothing new");
    let listed = etcd.snapshot().await.unwrap();
    assert_eq!(listed.overrides, [(key("mail/a"), Status::Draining.into())].into());
    assert!(listed.instances.is_empty());
    assert!(etcd.delete_override(&key("mail/a")).await.unwrap());
    assert!(!etcd.delete_override(&key("mail/a")).await.unwrap());
    assert!(etcd.snapshot().await.unwrap().overrides.is_empty());
}

#[tokio::test]
async fn without_etcd_a_call_fails_soon_and_says_what_it_tried() {
    let cluster = EtcdCluster::start(1).await;
    let endpoint = cluster.endpoint(0);
    let etcd = Etcd::new(&EtcdOptions::at([&endpoint])).unwrap();
    drop(cluster);
    let began = Instant::now();
    let error = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(6), "at once, but for a busy machine, not {:?}", began.elapsed());
    assert!(error.is_transient());
    let text = service_kit::chain(&error).to_string();
    assert!(text.contains("cannot register service/mail/a") && text.contains(&endpoint), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn an_override_of_one_life_is_deleted_when_that_has_ended_and_not_before() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let key = key("mail/a");
    let lease = etcd.register(&key, &instance("a:1"), long_ttl()).await.unwrap().lease;
    let order = Override { incarnation: Some(Incarnation(lease)), ..Override::from(Status::Draining) };
    etcd.put_override(&key, order.clone()).await.unwrap();
    assert!(!etcd.end_override(&key, &order).await.unwrap(), "it lives");
    etcd.register(&key, &instance("a:2"), long_ttl()).await.unwrap();
    let newer = Override { author: Some("kim".into()), ..order.clone() };
    etcd.put_override(&key, newer.clone()).await.unwrap();
    assert!(!etcd.end_override(&key, &order).await.unwrap(), "it says something else since");
    assert!(etcd.end_override(&key, &newer).await.unwrap());
    assert!(!etcd.end_override(&key, &newer).await.unwrap());
    etcd.put_override(&key, order.clone()).await.unwrap();
    etcd.deregister(&key, None).await.unwrap();
    assert!(etcd.end_override(&key, &order).await.unwrap(), "without a key there is no life either");
    etcd.put_override(&key, Status::Draining).await.unwrap();
    assert!(!etcd.end_override(&key, &Status::Draining.into()).await.unwrap(), "that one is for good");
}
