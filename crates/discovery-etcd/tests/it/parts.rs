//! What these tests are written with.

use std::{collections::BTreeSet, time::Duration};

use discovery::{Instance, InstanceKey, Ttl};
use discovery_etcd::{Etcd, EtcdOptions};
use etcd_client::Client;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

/// Longer than any test: what goes away before it does not go by itself.
pub(crate) fn long_ttl() -> Ttl {
    Ttl::try_from(Duration::from_secs(600)).unwrap()
}

pub(crate) fn short_ttl() -> Ttl {
    Ttl::MIN
}

/// `service/<path>`
pub(crate) fn key(path: &str) -> InstanceKey {
    InstanceKey::parse(format!("service/{path}").as_bytes()).unwrap()
}

pub(crate) fn instance(value: &str) -> Instance {
    value.parse().unwrap()
}

/// A client of ours for all members, with limits that suit a busy machine.
pub(crate) fn etcd(cluster: &EtcdCluster) -> Etcd {
    Etcd::new(&patient(cluster)).unwrap()
}

pub(crate) fn patient(cluster: &EtcdCluster) -> EtcdOptions {
    EtcdOptions {
        etcd_timeout: Duration::from_secs(1),
        etcd_deadline: Duration::from_secs(4),
        ..EtcdOptions::at(cluster.endpoints())
    }
}

/// etcd-client itself, to look behind our back and to be the third party.
pub(crate) async fn raw(cluster: &EtcdCluster, member: usize) -> Client {
    Client::connect([cluster.endpoint(member)], None).await.unwrap()
}

/// Every lease that etcd knows.
pub(crate) async fn leases(raw: &mut Client) -> BTreeSet<i64> {
    raw.leases().await.unwrap().leases().iter().map(|lease| lease.id()).collect()
}

/// Waits until etcd knows no lease any more.
pub(crate) async fn no_lease_is_left(raw: &Client) {
    wait_until("no lease", SOON, || {
        let mut raw = raw.clone();
        async move { leases(&mut raw).await.is_empty() }
    })
    .await;
}

/// Every lease by which an instance lives.
pub(crate) async fn leases_in_use(etcd: &Etcd) -> BTreeSet<i64> {
    let listed = etcd.snapshot().await.unwrap().instances;
    listed.iter().filter_map(|registered| registered.lease).map(|lease| lease.0).collect()
}
