//! Tables of services where etcd is slow, and where a registration comes late.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    chaos_proxy::ChaosProxy,
    etcd::EtcdCluster,
    ports::free_ports,
    wait::{SOON, wait_until},
};

use crate::{
    support::{Registry, keys, metric},
    tables::{ServicesFile, listening, quick},
};

/// How much longer everything takes, in each direction: a call needs half a second and more.
const SLOW: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_etcd_needs_most_of_a_second_for_an_answer_a_registry_goes_on_with_its_table() {
    let etcd = EtcdCluster::start(1).await;
    let proxy = ChaosProxy::start(etcd.endpoint(0).strip_prefix("http://").unwrap().parse().unwrap()).await;
    let (listener, address) = listening().await;
    let file = ServicesFile::new(&json!([{ "service": "web", "id": "a", "address": address,
        "checks": [quick("tcp", &json!({}))] }]));
    let registry = Registry::launch(vec![format!("http://{}", proxy.address())], |config| {
        config.table.services_file = Some(file.path());
        config.etcd.etcd_timeout = Duration::from_secs(5);
        config.etcd.etcd_deadline = Duration::from_secs(10);
    })
    .await;
    registry.wait_until_ready().await;
    registry.wait_for_instance("web", "a", true).await;
    proxy.delay(SLOW);
    drop(listener);
    registry.wait_for_instance("web", "a", false).await;
    let port = address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let _again = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    registry.wait_for_instance("web", "a", true).await;
    assert_eq!(metric(&registry, "registry_table_taken_over_total").await, 0.0, "it was there all the time");
}

/// What a transaction writes whose registry has dropped the entry meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_whose_registration_comes_after_it_left_the_table_does_not_stay() {
    let etcd = EtcdCluster::start(1).await;
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let file = ServicesFile::new(&json!([{ "service": "web", "id": "a", "address": address,
        "checks": [quick("tcp", &json!({}))] }]));
    let registry = Registry::with_table(&etcd, &file).await;
    registry.wait_for_state("a", "failing").await;
    file.put(&json!([]));
    wait_until("it has left the table", SOON, async || registry.checked("a").await == Value::Null).await;
    let granted = etcd.etcdctl(&["lease", "grant", "3600"]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    let value = format!("http://{address}?meta.registered-by=table");
    etcd.etcdctl(&["put", "service/web/a", &value, &format!("--lease={lease}")]);
    wait_until("it is deregistered", SOON, async || !keys(&etcd).contains(&"service/web/a".to_owned())).await;
}
