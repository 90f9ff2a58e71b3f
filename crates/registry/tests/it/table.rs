//! Instances that cannot send heartbeats, registered by a table: what is checked, and what the file says.

use std::{fs, process::Command, sync::atomic::Ordering, time::Instant};

use serde_json::json;
use testkit::{
    database::Database,
    etcd::EtcdCluster,
    wait::{SOON, wait_for_eq, wait_until},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    full::small_etcd,
    high_availability::removals,
    support::{Registry, keys, leases, metric, value, wait_for_leases},
    tables::{PythonService, ServicesFile, listening, quick, wait_until_kept},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_registered_while_it_can_be_connected_to() {
    let mut database = Database::start().await;
    let address = format!("127.0.0.1:{}", database.port());
    let file = ServicesFile::new(&json!([{ "service": "mysql", "id": "db-1", "address": address, "zone": "a",
        "checks": [quick("tcp", &json!({}))] }]));
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::with_table(&etcd, &file).await;
    registry.wait_for_instance("mysql", "db-1", true).await;
    let first = registry.instances("mysql").await["db-1"].clone();
    assert_eq!((&first["origin"], &first["zone"], &first["status"]), (&json!("table"), &json!("a"), &json!("passing")));
    let shown = registry.wait_for_state("db-1", "passing").await;
    assert_eq!(shown["checks"], json!([{ "type": "tcp", "passes": true }]));
    assert_eq!(format!("http://{}", shown["checked_by"].as_str().unwrap()), registry.url);

    database.kill();
    registry.wait_for_instance("mysql", "db-1", false).await;
    let shown = registry.wait_for_state("db-1", "failing").await;
    assert_eq!(shown["reason"], format!("{address} cannot be connected to: Connection refused (os error 111)"));
    wait_until("the other registries can say why", SOON, async || {
        let said = etcd.etcdctl(&["get", "lock/table/", "--prefix", "--print-value-only"]);
        said.contains("\"failing\"") && said.contains("cannot be connected to")
    })
    .await;

    database.run().await;
    registry.wait_for_instance("mysql", "db-1", true).await;
    assert_ne!(registry.instances("mysql").await["db-1"]["incarnation"], first["incarnation"], "another life");
    assert_eq!(value(&etcd, "service/mysql/db-1"), Some(format!("http://{address}?zone=a&meta.registered-by=table")));
    // Its own, and that of the registry.
    wait_for_leases(&etcd, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_wrongly_or_too_late_fails_and_one_that_flaps_stays_as_it_was() {
    let service = PythonService::start().await;
    service.set("status", "flapping");
    let file = ServicesFile::new(&json!([{ "service": "web", "id": "a", "address": service.address,
        "checks": [service.check(&json!({ "timeout": "2s", "status": "200-299" }))] }]));
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::with_table(&etcd, &file).await;
    let bad = async || metric(&registry, "registry_table_checks_total{kind=\"Http\",result=\"Bad\"}").await;
    wait_until("it has failed and passed", SOON, async || {
        let metrics = registry.get("/metrics").await.body;
        metrics.as_str().is_some_and(|text| text.contains("result=\"Bad\"")) && bad().await >= 3.0
    })
    .await;
    assert_eq!(registry.checked("a").await["state"], "pending", "never twice in a row");
    assert!(registry.instances("web").await.is_empty());

    service.set("status", "204");
    registry.wait_for_instance("web", "a", true).await;
    let life = registry.instances("web").await["a"]["incarnation"].clone();
    service.set("status", "flapping");
    let before = bad().await;
    wait_until("it has failed again and again", SOON, async || bad().await >= before + 3.0).await;
    assert_eq!(registry.instances("web").await["a"]["incarnation"], life);

    service.set("status", "404");
    let shown = registry.wait_for_state("a", "failing").await;
    assert_eq!(shown["reason"], format!("http://{}/up answered 404, not 200-299", service.address));
    registry.wait_for_instance("web", "a", false).await;
    service.set("status", "200");
    registry.wait_for_instance("web", "a", true).await;
    service.set("delay", "2.5");
    let shown = registry.wait_for_state("a", "failing").await;
    assert_eq!(shown["reason"], format!("http://{}/up did not answer within 2s", service.address));
    let whole = registry.get("/v1/table").await.body.to_string();
    assert!(!whole.contains("secret") && !etcd.etcdctl(&["get", "", "--prefix"]).contains("secret"), "{whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_hangs_fails_at_its_deadline_and_leaves_no_process() {
    let (_listener, address) = listening().await;
    let hanging = json!({ "command": ["/bin/sh", "-c", "sleep 83.0051 & sleep 83.0052"], "timeout": "300ms" });
    let good = json!({ "command": ["/bin/sh", "-c", "test \"$MUSTER_INSTANCE\" = good"] });
    let file = ServicesFile::new(&json!([
        { "service": "db", "id": "hanging", "address": address, "checks": [quick("command", &hanging)] },
        { "service": "db", "id": "good", "address": address, "checks": [quick("command", &good), quick("tcp", &json!({}))] },
    ]));
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::with_table(&etcd, &file).await;
    registry.wait_for_instance("db", "good", true).await;
    let shown = registry.wait_for_state("hanging", "failing").await;
    assert_eq!(shown["reason"], "/bin/sh had not ended after 300ms and was killed");
    registry.stop().await;
    let left = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let stats = processes.filter_map(|one| {
            let line = fs::read_to_string(one.path().join("cmdline")).ok()?;
            let stat = fs::read_to_string(one.path().join("stat")).ok()?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
            let is_zombie = fields.next()? == "Z" && fields.next()? == std::process::id().to_string();
            (is_zombie || line.contains("83.005")).then_some(stat)
        });
        stats.collect::<Vec<_>>()
    };
    wait_for_eq("processes and zombies of the check", SOON, Vec::new(), async || left()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_protocol_of_grpc_is_asked() {
    let (health, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tonic::transport::Server::builder().add_service(service);
    let serving = tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    health.set_service_status("shop.Cart", tonic_health::ServingStatus::NotServing).await;
    let check = |service: &str| json!([quick("grpc", &json!({ "service": service }))]);
    let file = ServicesFile::new(&json!([
        { "service": "cart", "id": "server", "address": address, "scheme": "h2c", "checks": check("") },
        { "service": "cart", "id": "named", "address": address, "scheme": "h2c", "checks": check("shop.Cart") },
        { "service": "cart", "id": "unknown", "address": address, "scheme": "h2c", "checks": check("shop.Till") },
    ]));
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::with_table(&etcd, &file).await;
    registry.wait_for_instance("cart", "server", true).await;
    let shown = registry.wait_for_state("named", "failing").await;
    assert_eq!(shown["reason"], format!("{address} says that shop.Cart is NOT_SERVING"));
    let shown = registry.wait_for_state("unknown", "failing").await;
    assert_eq!(shown["reason"], format!("{address} knows no service shop.Till"));
    health.set_service_status("shop.Cart", tonic_health::ServingStatus::Serving).await;
    registry.wait_for_instance("cart", "named", true).await;
    serving.abort();
    registry.wait_for_instance("cart", "server", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_keeps_the_last_good_table_and_is_reported_with_its_place() {
    let (_listener, address) = listening().await;
    let one = json!({ "service": "web", "id": "a", "address": address, "checks": [quick("tcp", &json!({}))] });
    let file = ServicesFile::new(&json!([one]));
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::with_table(&etcd, &file).await;
    registry.wait_for_instance("web", "a", true).await;
    assert_eq!(metric(&registry, "registry_table_mistakes").await, 0.0);
    let life = registry.instances("web").await["a"]["incarnation"].clone();

    file.write("{\"instances\": [\n{\"service\": \"web\", \"wieght\": 2}\n]}");
    let shown = async || registry.get("/v1/table").await.accepted()["file"]["mistakes"].clone();
    wait_until("the mistakes are reported", SOON, async || shown().await.as_array().is_some_and(|all| all.len() == 2))
        .await;
    assert_eq!(shown().await[0], "line 2: instances[0].address: is missing");
    let ready = registry.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.body["status"]), (200, &json!("degraded")));
    let reason = ready.body["checks"]["services file"].as_str().unwrap().to_owned();
    assert_eq!(reason, "an earlier version is in force: the table has 2 mistakes, see GET /v1/table");
    assert_eq!(metric(&registry, "registry_table_mistakes").await, 2.0);
    assert_eq!(registry.checked("a").await["state"], "passing");

    file.put(&json!([one, { "service": "web", "id": "b", "address": address }]));
    registry.wait_for_instance("web", "b", true).await;
    assert_eq!(registry.get("/readyz").await.body["status"], "ready");
    assert_eq!(registry.instances("web").await["a"]["incarnation"], life, "it was never away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_the_table_is_deregistered_at_once_and_once_and_what_changes_is_written() {
    let (_listener, address) = listening().await;
    let check = json!([quick("tcp", &json!({}))]);
    let entry = |id: &str| json!({ "service": "web", "id": id, "address": address, "checks": check });
    // Each registry has a file of its own: files do not change everywhere in the same moment.
    let files = [(); 2].map(|()| ServicesFile::new(&json!([entry("a"), entry("b")])));
    let etcd = EtcdCluster::start(1).await;
    let registries = [Registry::with_table(&etcd, &files[0]).await, Registry::with_table(&etcd, &files[1]).await];
    for id in ["a", "b"] {
        registries[0].wait_for_instance("web", id, true).await;
    }
    let life = registries[0].instances("web").await["b"]["incarnation"].clone();
    let removed = removals(&etcd);
    let reduced = json!([{ "service": "web", "id": "b", "address": address, "weight": 7, "checks": check }]);
    files[0].put(&reduced);
    wait_until("the first has read it", SOON, async || registries[0].checked("a").await.is_null()).await;
    wait_until("the second checks what it alone has", SOON, async || {
        let by = registries[1].checked("a").await["checked_by"].clone();
        by.as_str().is_some_and(|by| registries[1].url.ends_with(by))
    })
    .await;
    assert!(keys(&etcd).contains(&"service/web/a".to_owned()), "as long as one has it");

    files[1].put(&reduced);
    registries[0].wait_for_instance("web", "a", false).await;
    for registry in &registries {
        wait_until("both have read it", SOON, async || registry.checked("a").await.is_null()).await;
    }
    wait_until("the change is written", SOON, async || registries[0].instances("web").await["b"]["weight"] == 7).await;
    assert_eq!(registries[0].instances("web").await["b"]["incarnation"], life);
    // One instance and two registries.
    wait_for_leases(&etcd, 3).await;
    wait_for_eq("instances that were removed", SOON, 1, async || removed.load(Ordering::Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_another_holds_is_left_to_it_until_it_is_gone() {
    let file = ServicesFile::new(&json!([
        { "service": "web", "id": "a", "address": "127.0.0.1:81" },
        { "service": "web", "id": "b", "address": "127.0.0.1:81" },
    ]));
    let etcd = EtcdCluster::start(1).await;
    let before = Registry::start(&etcd).await;
    before.beat("web/a", r#"{"address":"127.0.0.1:82","ttl_ms":600000}"#).await;
    etcd.etcdctl(&["put", "service/web/b", "127.0.0.1:83"]);
    before.wait_for_instance("web", "b", true).await;
    let registry = Registry::with_table(&etcd, &file).await;
    let shown = registry.wait_for_state("a", "contested").await;
    assert_eq!(shown["reason"], "127.0.0.1:82 sends heartbeats for this id");
    let shown = registry.wait_for_state("b", "contested").await;
    assert_eq!(shown["reason"], "127.0.0.1:83 was written by hand under this id");
    let listed = registry.instances("web").await;
    assert_eq!((&listed["a"]["origin"], &listed["b"]["origin"]), (&json!("heartbeat"), &json!("hand")));
    assert_eq!(listed["b"]["lease"], json!(null));

    registry.delete("/v1/services/web/instances/a").await.accepted();
    etcd.etcdctl(&["del", "service/web/b"]);
    for id in ["a", "b"] {
        registry.wait_for_state(id, "passing").await;
        wait_until("it is the table's", SOON, async || registry.instances("web").await[id]["origin"] == "table").await;
    }
    registry.beat("web/a", r#"{"address":"127.0.0.1:82","ttl_ms":600000}"#).await;
    registry.wait_for_state("a", "contested").await;
    assert_eq!(value(&etcd, "service/web/a").as_deref(), Some("127.0.0.1:82"), "a heartbeat wins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_may_name_any_network_but_no_address_that_is_nobodys_service() {
    let etcd = EtcdCluster::start(1).await;
    let member = etcd.endpoint(0).replace("http://", "");
    let file = ServicesFile::new(&json!([
        { "service": "dns", "id": "elsewhere", "address": "8.8.8.8:53" },
        { "service": "dns", "id": "metadata", "address": "169.254.169.254:80" },
        { "service": "dns", "id": "etcd", "address": member },
    ]));
    let registry = Registry::with_table(&etcd, &file).await;
    registry.wait_for_instance("dns", "elsewhere", true).await;
    let shown = registry.wait_for_state("metadata", "refused").await;
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("must not be announced")), "{shown}");
    let shown = registry.wait_for_state("etcd", "refused").await;
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("a member of etcd")), "{shown}");
    assert_eq!(registry.heartbeat("dns/b", r#"{"address":"8.8.8.8:53"}"#).await.code(), "address_not_allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_of_etcd_removes_nothing() {
    let (_listener, address) = listening().await;
    let entry = |id: usize| {
        json!({ "service": "web", "id": id.to_string(), "address": address, "ttl_ms": 10_000,
        "checks": [quick("tcp", &json!({}))] })
    };
    let file = ServicesFile::new(&(0..5).map(entry).collect());
    let mut etcd = EtcdCluster::start(3).await;
    let registries = [Registry::with_table(&etcd, &file).await, Registry::with_table(&etcd, &file).await];
    wait_until("all are registered", SOON, async || registries[0].instances("web").await.len() == 5).await;
    let lives = async |registry: &Registry| {
        let listed = registry.instances("web").await;
        listed.values().map(|one| (one["incarnation"].clone(), one["created_revision"].clone())).collect::<Vec<_>>()
    };
    let before = lives(&registries[0]).await;
    let granted = leases(&etcd).len();
    let leader = etcd.leader().await;
    etcd.kill(leader);
    for registry in &registries {
        wait_until("etcd writes again", 2 * SOON, async || {
            registry.heartbeat("web/x", r#"{"address":"127.0.0.1:1"}"#).await.status == 200
        })
        .await;
        registry.wait_until_ready().await;
    }
    etcd.restart(leader).await;
    for registry in &registries {
        wait_until("both take part again", SOON, async || {
            registry.get("/v1/table").await.body["registries"].as_array().is_some_and(|all| all.len() == 2)
        })
        .await;
        registry.delete("/v1/services/web/instances/x").await.accepted();
        // A list follows etcd within milliseconds, not at once.
        wait_until("the same lives as before", SOON, async || lives(registry).await == before).await;
    }
    wait_for_leases(&etcd, granted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_ends_no_instance_of_the_table() {
    let (_listener, address) = listening().await;
    let (doomed, doomed_address) = listening().await;
    let entry = |id: &str, address: &str| json!({ "service": "web", "id": id, "address": address, "checks": [quick("tcp", &json!({}))] });
    let file = ServicesFile::new(&json!([entry("a", &address), entry("b", &doomed_address)]));
    let etcd = small_etcd().await;
    let registry = Registry::with_table(&etcd, &file).await;
    for id in ["a", "b"] {
        registry.wait_for_instance("web", id, true).await;
    }
    let lease = registry.instances("web").await["a"]["lease"].as_str().unwrap().to_owned();
    etcd.fill();
    // What this changes cannot be written for the other registries to read.
    drop(doomed);
    registry.wait_for_state("b", "failing").await;
    registry.wait_for_instance("web", "b", false).await;
    for _round in 0..3 {
        wait_until_kept(&etcd, &lease, Instant::now()).await;
    }
    assert_eq!(registry.instances("web").await["a"]["lease"], lease);
}

#[test]
fn a_table_with_mistakes_at_the_start_is_an_exit_that_names_them_all() {
    let file = ServicesFile::new(&json!([]));
    file.write("{\"instances\": [\n  {\"service\": \"My SQL\", \"address\": \"a:1\"},\n  {\"address\": 7}\n]}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command.env_clear().env("REGISTRY_LISTEN", "127.0.0.1:0").env("REGISTRY_SERVICES_FILE", file.path());
    let output = command.output().expect("the program was built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for words in ["line 2: instances[0].service", "line 3: instances[1].service: is missing", "instances[1].address"] {
        assert!(said.contains(words), "{words} in {said}");
    }
}
