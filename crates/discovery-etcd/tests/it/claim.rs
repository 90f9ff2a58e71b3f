//! Several registries that take heartbeats of the same instance at the same moment.

use discovery_etcd::Claim;
use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::parts::{etcd, instance, key, leases, leases_in_use, long_ttl, raw};

#[tokio::test]
async fn of_many_claims_at_once_one_wins_and_the_others_learn_whose_it_is() {
    let cluster = EtcdCluster::start(3).await;
    let registries: Vec<_> = (0..8).map(|_| etcd(&cluster)).collect();
    let (key, value) = (key("mail/a"), instance("a:1"));
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
        let (etcd, mut raw) = (registries[0].clone(), raw.clone());
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
        panic!("nobody was there")
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
    wait_until("no lease", SOON, || {
        let mut raw = raw.clone();
        async move { leases(&mut raw).await.is_empty() }
    })
    .await;
}
