use std::{sync::Arc, time::Duration};

use discovery::{LeaseId, Ttl};
use discovery_etcd::{Etcd, EtcdError, EtcdOptions};
use futures::future::{join_all, try_join_all};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::time::{Instant, timeout};

use crate::parts::{etcd, instance, key, leases, long_ttl, raw, short_ttl};

#[tokio::test]
async fn steady_keep_alives_add_nothing_to_the_raft_log() {
    let cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    let keys: Vec<_> = (0..100).map(|n| key(&format!("mail/{n}"))).collect();
    let value = instance("a:1");
    let registered = try_join_all(keys.iter().map(|key| etcd.register(key, &value, long_ttl()))).await.unwrap();
    let before = etcd.status().await.raft_index().unwrap();
    for _ in 0..30 {
        try_join_all(registered.iter().map(|registration| etcd.keep_alive(registration.lease))).await.unwrap();
    }
    assert_eq!(etcd.status().await.raft_index().unwrap(), before, "3,000 keep-alives");
    let mut raw = raw(&cluster, 0).await;
    assert_eq!(leases(&mut raw).await.len(), 100, "as many leases as instances");
}

#[tokio::test]
async fn an_instance_lives_as_long_as_it_is_kept_alive_and_no_longer() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let ttl = |seconds| Ttl::try_from(Duration::from_secs(seconds)).unwrap();
    let began = Instant::now();
    let kept = etcd.register(&key("mail/kept"), &instance("a:1"), ttl(5)).await.unwrap();
    etcd.register(&key("mail/left"), &instance("b:1"), ttl(6)).await.unwrap();
    wait_until("the end of the instance that is not kept alive", SOON, || async {
        assert_eq!(etcd.keep_alive(kept.lease).await.unwrap(), ttl(5).get());
        etcd.snapshot().await.unwrap().instances.len() == 1
    })
    .await;
    assert!(began.elapsed() >= ttl(6).get(), "not before its time");
    assert_eq!(etcd.snapshot().await.unwrap().instances[0].key, key("mail/kept"));
}

#[tokio::test]
async fn a_lease_that_is_gone_is_said_to_be_gone_and_others_on_its_stream_live_on() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    // Before any stream is open, while one is open, and for more leases than there are streams.
    for gone in 1..=20 {
        let error = etcd.keep_alive(LeaseId(gone)).await.unwrap_err();
        assert_eq!(error, EtcdError::LeaseNotFound { lease: LeaseId(gone) });
        etcd.keep_alive(lease).await.unwrap();
    }
    etcd.deregister(&key("mail/a"), Some(lease)).await.unwrap();
    assert_eq!(etcd.keep_alive(lease).await.unwrap_err(), EtcdError::LeaseNotFound { lease });
}

#[tokio::test]
async fn a_lease_that_has_just_expired_does_not_hold_up_the_others() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let keys: Vec<_> = (0..64).map(|n| key(&format!("mail/{n}"))).collect();
    let value = instance("a:1");
    let kept = try_join_all(keys.iter().map(|key| etcd.register(key, &value, long_ttl()))).await.unwrap();
    let expiring = etcd.register(&key("web/a"), &value, short_ttl()).await.unwrap();
    let expires = Instant::now() + short_ttl().get();
    // etcd deletes it up to half a second after its end, and stalls its keep-alive until then.
    loop {
        let others = try_join_all(kept.iter().map(|registration| etcd.keep_alive(registration.lease)));
        if Instant::now() < expires {
            others.await.unwrap();
            continue;
        }
        let (expired, others) = tokio::join!(etcd.keep_alive(expiring.lease), others);
        others.unwrap();
        match expired {
            Err(EtcdError::LeaseNotFound { .. }) => break,
            // Our clock is a little ahead of etcd's: it was renewed.
            Ok(_) => return,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

#[tokio::test]
async fn keep_alives_of_many_callers_share_their_streams_without_mixing_up_their_answers() {
    let cluster = EtcdCluster::start(1).await;
    // A pause of the machine is no reason for streams of their own.
    let options = EtcdOptions {
        etcd_timeout: Duration::from_secs(10),
        etcd_deadline: Duration::from_secs(30),
        ..EtcdOptions::at(cluster.endpoints())
    };
    let etcd = Arc::new(Etcd::new(&options).unwrap());
    let lives = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    let asked = (0..2000).map(|n| {
        let etcd = etcd.clone();
        async move {
            match n % 2 {
                0 => etcd.keep_alive(lives).await.is_ok(),
                _ => {
                    matches!(etcd.keep_alive(LeaseId(n)).await, Err(EtcdError::LeaseNotFound { lease }) if lease.0 == n)
                }
            }
        }
    });
    assert!(futures::future::join_all(asked).await.into_iter().all(|right| right));
}

#[tokio::test]
async fn a_caller_that_leaves_takes_no_other_down_with_it() {
    let mut cluster = EtcdCluster::start(1).await;
    let options = EtcdOptions {
        etcd_timeout: Duration::from_secs(20),
        etcd_deadline: Duration::from_secs(20),
        ..EtcdOptions::at(cluster.endpoints())
    };
    let etcd = Etcd::new(&options).unwrap();
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    etcd.keep_alive(lease).await.unwrap();
    cluster.freeze(0);
    // The same lease is kept alive over the same stream.
    let leaving = (0..10).map(|_| timeout(Duration::from_millis(100), etcd.keep_alive(lease)));
    let others = async {
        let staying = try_join_all((0..10).map(|_| etcd.keep_alive(lease)));
        let (left, stayed) = tokio::join!(join_all(leaving), staying);
        assert!(left.iter().all(Result::is_err), "a member that is frozen answers nobody: {left:?}");
        stayed
    };
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.thaw(0);
    };
    let (stayed, ()) = tokio::join!(others, thaw);
    stayed.unwrap();
    assert_eq!(etcd.keep_alive(lease).await.unwrap(), long_ttl().get());
}
