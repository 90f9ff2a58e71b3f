//! Registering, listing and watching.

use muster_proto::v1::{DeregisterRequest, ListRequest, Status as InstanceStatus};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::time::timeout;
use tonic::Code;

use super::{A_WHILE, Client, heartbeat, next, reason};
use crate::support::{Registry, keys, leases, metric, value};

#[tokio::test]
async fn heartbeats_over_a_stream_and_over_http_keep_the_same_registration() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let first = client.beat(heartbeat("mail/a", "new")).await.unwrap();
    assert_eq!((first.ttl_ms, first.status), (60_000, InstanceStatus::Passing.into()));
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("10.0.0.5:7070"));
    let granted = leases(&etcd);

    let mut beats = client.register().await.unwrap();
    for _ in 0..3 {
        let reply = beats.say(heartbeat("mail/a", &first.incarnation)).await.unwrap();
        assert_eq!(reply.incarnation, first.incarnation);
    }
    let body = format!(r#"{{"address":"10.0.0.5:7070","ttl_ms":60000,"incarnation":"{}"}}"#, first.incarnation);
    assert_eq!(registry.beat("mail/a", &body).await["incarnation"], first.incarnation);
    let mut critical = heartbeat("mail/a", &first.incarnation);
    critical.instance.as_mut().unwrap().status = InstanceStatus::Critical.into();
    critical.instance.as_mut().unwrap().reason = "no disk".to_owned();
    assert_eq!(beats.say(critical).await.unwrap().status, i32::from(InstanceStatus::Critical));
    assert_eq!(registry.instances("mail").await["a"]["reason"], "no disk");
    assert_eq!(leases(&etcd), granted, "one lease for its life");
    let counted = |outcome: &str| metric_of(&registry, format!("registry_heartbeats_total{{outcome=\"{outcome}\"}}"));
    assert_eq!((counted("Registered").await, counted("Updated").await), (1.0, 1.0), "the same counters");
}

async fn metric_of(registry: &Registry, name: String) -> f64 {
    metric(registry, &name).await
}

#[tokio::test]
async fn the_end_of_a_stream_is_not_the_end_of_the_instance_and_a_deregistration_is() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let life = client.beat(heartbeat("mail/a", "new")).await.unwrap().incarnation;
    drop(client.register().await.unwrap());
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(keys(&etcd), ["service/mail/a"]);
    let leave = async |incarnation: &str| {
        let request =
            DeregisterRequest { service: "mail".to_owned(), id: "a".to_owned(), incarnation: incarnation.to_owned() };
        client.calls.clone().deregister(client.request(request)).await
    };
    let refused = leave("4f2a90c1d3e5b677").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "another_incarnation"));
    let revision = leave(&life).await.unwrap().into_inner().revision;
    assert!(revision > 0 && keys(&etcd).is_empty());
    assert!(leave(&life).await.unwrap().into_inner().revision >= revision, "twice is as good as once");
    assert_eq!(leases(&etcd), [""; 0]);
}

#[tokio::test]
async fn the_same_heartbeat_twice_is_one_life_and_a_late_one_registers_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let clients = [Client::of(&replicas[0]).await, Client::of(&replicas[1]).await];
    let begin = heartbeat("mail/a", "new:4f2a90c1d3e5b677");
    let first = clients[0].beat(begin.clone()).await.unwrap();
    let again = clients[1].beat(begin).await.unwrap();
    assert_eq!((first.incarnation.as_str(), again.incarnation.as_str()), ("4f2a90c1d3e5b677", "4f2a90c1d3e5b677"));
    assert_eq!(leases(&etcd), ["4f2a90c1d3e5b677"]);
    let request =
        DeregisterRequest { service: "mail".to_owned(), id: "a".to_owned(), incarnation: first.incarnation.clone() };
    clients[0].calls.clone().deregister(request).await.unwrap();
    let late = clients[1].beat(heartbeat("mail/a", &first.incarnation)).await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::FailedPrecondition, "incarnation_ended"));
    assert!(keys(&etcd).is_empty());
}

#[tokio::test]
async fn a_list_has_what_the_one_over_http_has() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    for n in 0..200 {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        let meta = "x".repeat(250);
        let body = format!(r#"{{"address":"10.0.0.5:7070","ttl_ms":60000,"tags":["{tag}"],"meta":{{"a":"{meta}"}}}}"#);
        registry.beat(&format!("mail/{n:0>3}"), &body).await;
    }
    registry.beat("web/a", r#"{"address":"10.0.0.6:80","ttl_ms":60000,"status":"critical"}"#).await;
    registry.wait_for_instance("mail", "199", true).await;
    registry.wait_for_instance("web", "a", true).await;
    let listed = client.list("mail").await.unwrap();
    let over_http = registry.instances("mail").await;
    assert_eq!(listed.len(), 200);
    for one in &listed {
        let same = &over_http[&one.id];
        assert_eq!(same["incarnation"], one.incarnation);
        assert_eq!(same["modified_revision"], one.modified_revision);
        assert_eq!(same["address"], one.instance.as_ref().unwrap().address);
    }
    assert_eq!(client.list("").await.unwrap().len(), 201, "all services");
    assert_eq!(client.list("none").await.unwrap(), []);
    let even = ListRequest { service: "mail".to_owned(), tags: vec!["even".to_owned()], ..ListRequest::default() };
    let mut parts = client.calls.clone().list(even).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        assert!(part.index > 0);
        sizes.push(part.instances.len());
    }
    assert!(sizes.iter().sum::<usize>() == 100 && sizes.len() > 1, "in parts: {sizes:?}");
    let passing = ListRequest { service: "web".to_owned(), passing: true, ..ListRequest::default() };
    let part = client.calls.clone().list(passing).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(part.instances, [], "out of rotation");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_left_at_any_registry_and_starts_anew_where_that_cannot_be_told() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let clients = [Client::of(&replicas[0]).await, Client::of(&replicas[1]).await];
    clients[0].beat(heartbeat("mail/a", "new")).await.unwrap();
    for replica in &replicas {
        replica.wait_for_instance("mail", "a", true).await;
    }
    let mut stream = clients[0].watch("mail", 0).await.unwrap();
    let reset = next(&mut stream).await.unwrap();
    assert!(reset.reset && reset.changed.len() == 1 && reset.index > 0, "{reset:?}");
    clients[1].beat(heartbeat("mail/b", "new")).await.unwrap();
    let added = next(&mut stream).await.unwrap();
    assert_eq!((added.reset, added.changed[0].id.as_str()), (false, "b"));
    drop(stream);

    // Meanwhile one leaves and one comes.
    let gone = DeregisterRequest { service: "mail".to_owned(), id: "a".to_owned(), ..DeregisterRequest::default() };
    clients[0].calls.clone().deregister(gone).await.unwrap();
    clients[0].beat(heartbeat("mail/c", "new")).await.unwrap();
    replicas[1].wait_for_instance("mail", "c", true).await;
    replicas[1].wait_for_instance("mail", "a", false).await;
    let mut stream = clients[1].watch("mail", added.index).await.unwrap();
    let mut missed = (Vec::new(), Vec::new());
    loop {
        let reply = next(&mut stream).await.unwrap();
        assert!(!reply.reset);
        missed.0.extend(reply.removed);
        missed.1.extend(reply.changed);
        if reply.index != 0 {
            break;
        }
    }
    assert_eq!((missed.0[0].id.as_str(), missed.0[0].cause.as_str()), ("a", "deregistered"));
    assert!(missed.1.iter().any(|one| one.id == "c"), "{missed:?}");

    // One that was not there yet, and one from the future.
    let newcomer = Registry::start(&etcd).await;
    for (client, index) in [(Client::of(&newcomer).await, 1), (clients[1].clone(), i64::MAX)] {
        let mut stream = client.watch("mail", index).await.unwrap();
        let reset = next(&mut stream).await.unwrap();
        assert!(reset.reset && reset.changed.len() == 2, "from {index}: {reset:?}");
    }
}

#[tokio::test]
async fn streams_end_with_the_registry_and_the_instance_stays() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let mut beats = client.register().await.unwrap();
    wait_until(
        "it is registered",
        SOON,
        async || matches!(client.beat(heartbeat("mail/a", "")).await, Ok(reply) if !reply.incarnation.is_empty()),
    )
    .await;
    let mut stream = client.watch("mail", 0).await.unwrap();
    registry.stop().await;
    assert!(matches!(timeout(SOON, beats.replies.message()).await.unwrap(), Ok(None) | Err(_)));
    let ended = async { while matches!(stream.message().await, Ok(Some(_))) {} };
    timeout(SOON, ended).await.expect("an end");
    assert_eq!(keys(&etcd), ["service/mail/a"]);
}

#[tokio::test]
async fn a_stream_that_is_silent_for_longer_than_its_ttl_is_ended() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let mut beats = client.register().await.unwrap();
    beats.say(muster_proto::v1::Heartbeat { ttl_ms: 2000, ..heartbeat("mail/a", "") }).await.unwrap();
    let end = timeout(SOON, beats.replies.message()).await.expect("an end").unwrap_err();
    assert_eq!((end.code(), reason(&end).as_str()), (Code::DeadlineExceeded, "body_too_slow"));
}
