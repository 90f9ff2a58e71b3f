//! Several registries that take heartbeats of the same instance at the same moment.

use discovery::LeaseId;
use discovery_etcd::{Claim, EtcdError, Left};
use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::parts::{etcd, instance, key, leases, leases_in_use, long_ttl, no_lease_is_left, raw};

#[tokio::test]
async fn of_many_claims_at_once_one_wins_and_the_others_learn_whose_it_is() {
    let cluster = EtcdCluster::start(3).await;
    let registries: Vec<_> = (0..8).map(|_| etcd(&cluster)).collect();
    let key = key("mail/a");
    let value = instance("a:1");
    let claims = join_all(registries.iter().map(|etcd| etcd.claim(&key, &value, long_ttl(), None))).await;
    let mut leases_told = std::collections::BTreeSet::new();
    let mut won = 0;
    for claim in claims {
        match claim.unwrap() {
            Claim::Registered(registration) => {
                won += 1;
                leases_told.insert(Some(registration.lease));
            }
            Claim::Taken(held) => {
                let held = held.unwrap();
                assert_eq!(held.instance.as_ref(), Some(&value));
                leases_told.insert(held.lease);
            }
        }
    }
    assert_eq!((won, leases_told.len()), (1, 1), "all agree on one lease");
    let raw = raw(&cluster, 0).await;
    wait_until("one lease in all", SOON, || {
        let etcd = registries[0].clone();
        let mut raw = raw.clone();
        async move { leases(&mut raw).await == leases_in_use(&etcd).await }
    })
    .await;
}

#[tokio::test]
async fn a_claim_replaces_exactly_what_was_seen() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let key = key("mail/a");
    assert_eq!(etcd.find(&key).await.unwrap(), None);
    let Claim::Registered(first) = etcd.claim(&key, &instance("a:1"), long_ttl(), None).await.unwrap() else {
        panic!("there was no holder")
    };
    let seen = etcd.find(&key).await.unwrap().unwrap();
    assert_eq!((seen.lease, seen.modified), (Some(first.lease), first.revision));
    etcd.update(&key, &instance("a:2"), first.lease).await.unwrap();
    let late = etcd.claim(&key, &instance("a:3"), long_ttl(), Some(&seen)).await.unwrap();
    let Claim::Taken(Some(held)) = late else { panic!("it was written since: {late:?}") };
    assert_eq!(held.instance, Some(instance("a:2")));
    let claimed = etcd.claim(&key, &instance("a:3"), long_ttl(), Some(&held)).await.unwrap();
    assert!(matches!(claimed, Claim::Registered(_)), "{claimed:?}");
    etcd.deregister(&key, None).await.unwrap();
    let gone = etcd.claim(&key, &instance("a:4"), long_ttl(), Some(&held)).await.unwrap();
    assert_eq!(gone, Claim::Taken(None));
    let raw = raw(&cluster, 0).await;
    no_lease_is_left(&raw).await;
}

#[tokio::test]
async fn claims_of_the_same_life_share_one_lease_and_another_instances_is_refused() {
    let cluster = EtcdCluster::start(1).await;
    let registries: Vec<_> = (0..4).map(|_| etcd(&cluster)).collect();
    let key = key("mail/a");
    let value = instance("a:1");
    let lease = LeaseId(0x77);
    let claims = registries.iter().map(|etcd| etcd.claim_as(lease, &key, &value, long_ttl(), None));
    for claim in join_all(claims).await {
        let Claim::Registered(registration) = claim.unwrap() else { panic!("it is the same life") };
        assert_eq!(registration.lease, lease);
    }
    let other = crate::parts::key("web/b");
    let error = registries[0].claim_as(lease, &other, &value, long_ttl(), None).await.unwrap_err();
    assert!(matches!(error, EtcdError::LeaseInUse { .. }) && !error.is_transient(), "{error:?}");
    assert_eq!(registries[0].find(&other).await.unwrap(), None);
    let mut raw = raw(&cluster, 0).await;
    raw.lease_revoke(lease.0).await.unwrap();
    let again = registries[0].claim_as(lease, &key, &value, long_ttl(), None).await.unwrap();
    assert!(matches!(again, Claim::Registered(_)), "a lease that was revoked is granted again: {again:?}");
    assert_eq!(leases(&mut raw).await, [lease.0].into());
}

#[tokio::test]
async fn a_life_that_ends_leaves_another_one_alone() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let key = key("mail/a");
    let old = etcd.register(&key, &instance("a:1"), long_ttl()).await.unwrap().lease;
    let new = etcd.register(&key, &instance("a:2"), long_ttl()).await.unwrap().lease;
    let left = etcd.leave_as(&key, old).await.unwrap();
    assert!(matches!(&left, Left::Another(held) if held.lease == Some(new)), "{left:?}");
    assert_eq!(etcd.find(&key).await.unwrap().unwrap().instance, Some(instance("a:2")), "nothing was touched");
    assert!(matches!(etcd.leave_as(&key, new).await.unwrap(), Left::At(revision) if revision.0 > 0));
    assert_eq!(etcd.leave_as(&key, new).await.unwrap(), Left::At(Default::default()));
}
