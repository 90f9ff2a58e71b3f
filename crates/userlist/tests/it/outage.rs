//! A database that is killed, frozen, emptied, locked or not there yet.

use std::time::{Duration, Instant};

use discovery::Status;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use testkit::{
    chaos_proxy::ChaosProxy,
    database::Database,
    wait::{SOON, wait_for_eq, wait_until},
};
use tokio::task::JoinSet;

use crate::{
    fake_registry::FakeRegistry,
    service::{Client, NO_REGISTRY, Service},
};

const PUT: &str = r#"{"method":"put","name":"dong","email":"d@example.com"}"#;
const GET: &str = r#"{"method":"get","name":"dong"}"#;
/// The deadline of 2 s, and what a busy machine adds.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn wait_until_works(client: &Client) {
    wait_until("200 again", SOON, || async { client.plain(GET).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_there_is_not_is_named_with_the_option_that_names_it() {
    // A label of more than 63 bytes: no name server needs to be asked.
    let host = format!("{}.invalid", "x".repeat(64));
    let service = Service::launch(&format!("mysql://u:hunter2@{host}/users"), NO_REGISTRY).await;
    wait_until("the reason", SOON, || async {
        let readiness = service.client.get("/readyz").await.body["checks"]["database"].to_string();
        assert!(!readiness.contains("hunter2"), "{readiness}");
        [host.as_str(), "is not known", "--database-url (USERLIST_DATABASE_URL)"]
            .iter()
            .all(|part| readiness.contains(part))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_is_503_and_critical_until_it_is_back() {
    let mut database = Database::start().await;
    let url = database.create("users");
    let registry = FakeRegistry::start().await;
    let service = Service::launch(&url, &registry.url).await;
    let client = &service.client;
    wait_for_eq("status", SOON, Some(Status::Passing), || async { registry.last() }).await;
    assert_eq!(client.plain(PUT).await.status, 200);

    database.kill();
    let asked = Instant::now();
    client.plain(PUT).await.assert_unavailable("database_unavailable");
    client.send(Method::POST, "/v1/users", r#"{"name":"ding","email":"d@example.com"}"#).await;
    client.plain(GET).await.assert_unavailable("database_unavailable");
    assert!(asked.elapsed() < AT_ONCE, "three answers took {:?}", asked.elapsed());
    wait_for_eq("status", SOON, Some(Status::Critical), || async { registry.last() }).await;
    let why = "database: cannot connect: connection refused".to_owned();
    wait_for_eq("the reason", SOON, why, || async { registry.reason() }).await;

    // Known to be gone, it is not waited for at all.
    let asked = Instant::now();
    for _ in 0..50 {
        client.plain(GET).await.assert_unavailable("database_unavailable");
    }
    let create = client.send(Method::POST, "/v1/users", r#"{"name":"ding","email":"d@example.com"}"#).await;
    create.assert_unavailable("database_unavailable");
    assert!(asked.elapsed() < AT_ONCE, "51 answers took {:?}", asked.elapsed());
    let reason = || async { client.get("/readyz").await.body["checks"]["database"].clone() };
    wait_for_eq("reason", SOON, json!("cannot connect: connection refused"), reason).await;
    assert_eq!(client.get("/readyz").await.status, 503);
    assert_eq!(client.get("/healthz").await.status, 200, "a restart of the service would not help");

    database.run().await;
    wait_until_works(client).await;
    wait_for_eq("status", SOON, Some(Status::Passing), || async { registry.last() }).await;
    client.wait_until_ready().await;

    service.end().await;
    wait_until("it left in order", SOON, || async { registry.has_left() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_database_is_503_within_the_deadline_and_never_a_hang() {
    let mut database = Database::start().await;
    let url = database.create("users");
    let registry = FakeRegistry::start().await;
    let service = Service::launch(&url, &registry.url).await;
    service.client.wait_until_ready().await;
    assert_eq!(service.client.plain(PUT).await.status, 200);

    database.freeze();
    let mut requests = JoinSet::new();
    for n in 0..60 {
        let client = service.client.clone();
        requests.spawn(async move {
            let asked = Instant::now();
            let reply = match n % 3 {
                0 => client.plain(PUT).await,
                1 => client.plain(GET).await,
                _ => client.send(Method::POST, "/v1/users", &format!(r#"{{"name":"{n}","email":"a@b.c"}}"#)).await,
            };
            assert_eq!(reply.status, 503);
            assert!(asked.elapsed() < AT_ONCE, "an answer took {:?}", asked.elapsed());
        });
    }
    requests.join_all().await;
    wait_for_eq("status", SOON, Some(Status::Critical), || async { registry.last() }).await;
    let asked = Instant::now();
    // Each would wait for a second at least.
    for _ in 0..20 {
        service.client.plain(GET).await.assert_unavailable("database_unavailable");
    }
    assert!(asked.elapsed() < Duration::from_secs(15), "known to be gone, it is not waited for");

    database.thaw();
    wait_until_works(&service.client).await;
    wait_for_eq("status", SOON, Some(Status::Passing), || async { registry.last() }).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_is_survived() {
    let database = Database::start().await;
    let url = database.create("users");
    let mut network = ChaosProxy::start(([127, 0, 0, 1], database.port()).into()).await;
    let url = url.replace(&format!(":{}/", database.port()), &format!(":{}/", network.address().port()));
    let service = Service::start(&url).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);

    network.swallow();
    let asked = Instant::now();
    service.client.plain(GET).await.assert_unavailable("database_unavailable");
    assert!(asked.elapsed() < AT_ONCE);
    // The connections from before never come back to life, so new ones must be made.
    network.restore();
    wait_until_works(&service.client).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_before_its_database_and_finds_it() {
    let mut database = Database::stopped();
    let registry = FakeRegistry::start().await;
    let service = Service::launch(&database.url("users"), &registry.url).await;
    let client = &service.client;
    assert_eq!(client.get("/readyz").await.status, 503, "it is not ready before it has looked");
    client.plain(PUT).await.assert_unavailable("database_unavailable");
    let reason = || async { client.get("/readyz").await.body["checks"]["database"].clone() };
    wait_for_eq("reason", SOON, json!("cannot connect: connection refused"), reason).await;
    wait_for_eq("status", SOON, Some(Status::Critical), || async { registry.last() }).await;
    assert!(!registry.all().contains(&Some(Status::Passing)), "it never said that it could do its work");

    database.run().await;
    wait_for_eq("reason", SOON, json!("it has no database of that name (error 1049)"), reason).await;
    database.create("users");
    client.wait_until_ready().await;
    assert_eq!(client.plain(PUT).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_back_empty_is_filled_again() {
    let database = Database::start().await;
    let service = Service::start(&database.create("users")).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);
    database.sql("DROP DATABASE users; CREATE DATABASE users");
    wait_until("put works again", SOON, || async { service.client.plain(PUT).await.status == 200 }).await;
    assert_eq!(service.client.plain(GET).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_in_the_pool_fail_no_request() {
    let database = Database::start().await;
    let service = Service::start(&database.create("users")).await;
    for round in 0..5 {
        // Fills the pool.
        let mut requests = JoinSet::new();
        for n in 0..20 {
            let client = service.client.clone();
            requests.spawn(async move { client.plain(&PUT.replace("dong", &format!("{n}"))).await.status });
        }
        assert!(requests.join_all().await.iter().all(|status| *status == 200));
        let open = database.sql("SELECT id FROM information_schema.processlist WHERE user = 'muster'");
        assert!(open.lines().count() > 1, "there is a pool: {open}");
        let kills: Vec<_> = open.lines().map(|id| format!("KILL {id}")).collect();
        database.sql(&kills.join(";"));

        let client = &service.client;
        let created =
            client.send(Method::POST, "/v1/users", &format!(r#"{{"name":"new {round}","email":"a@b.c"}}"#)).await;
        assert_eq!(created.status, 201, "{:?}", created.body);
        assert_eq!(client.plain(PUT).await.status, 200);
        assert_eq!(client.plain(GET).await.status, 200);
        assert_eq!(client.send(Method::DELETE, "/v1/users/dong", "").await.status, 204);
        assert_eq!(client.get("/v1/users").await.status, 200);
        assert_eq!(client.get("/readyz").await.status, 200);
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_read_and_says_so() {
    let database = Database::start().await;
    let registry = FakeRegistry::start().await;
    let service = Service::launch(&database.create("users"), &registry.url).await;
    service.client.wait_until_ready().await;
    assert_eq!(service.client.plain(PUT).await.status, 200);
    wait_for_eq("status", SOON, Some(Status::Passing), || async { registry.last() }).await;
    database.sql("SET GLOBAL read_only = 1");
    service.client.plain(&PUT.replace("d@", "e@")).await.assert_unavailable("read_only");
    let create = service.client.send(Method::POST, "/v1/users", r#"{"name":"ding","email":"d@example.com"}"#).await;
    create.assert_unavailable("read_only");
    assert_eq!(service.client.plain(GET).await.status, 200, "reads go on");
    assert_eq!(registry.last(), Some(Status::Passing), "so it stays in rotation");
    database.sql("SET GLOBAL read_only = 0");
    assert_eq!(service.client.plain(PUT).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_is_503_within_the_deadline_and_others_go_on() {
    let database = Database::start().await;
    let url = database.create("users");
    let service = Service::start(&url).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);

    let mut holder = sqlx::MySqlConnection::connect(&url).await.unwrap();
    holder.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder.execute("UPDATE users SET email = 'held@example.com' WHERE name = 'dong'").await.unwrap();
    let asked = Instant::now();
    service.client.plain(&PUT.replace("d@", "e@")).await.assert_unavailable("database_unavailable");
    assert!(asked.elapsed() < AT_ONCE);
    assert_eq!(service.client.plain(GET).await.body["email"], "d@example.com", "reads do not wait");
    assert_eq!(service.client.plain(&PUT.replace("dong", "ding")).await.status, 200, "other rows do not wait");
    assert_eq!(service.client.get("/readyz").await.status, 200, "one row is no outage");

    holder.execute("ROLLBACK").await.unwrap();
    assert_eq!(service.client.plain(PUT).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_503_within_the_deadline_and_no_outage() {
    let database = Database::start().await;
    let url = database.create("users");
    let service = Service::launch_with(&url, NO_REGISTRY, &["--database-connections", "1"]).await;
    let client = &service.client;
    client.wait_until_ready().await;
    assert_eq!(client.plain(PUT).await.status, 200);
    let mut holder = sqlx::MySqlConnection::connect(&url).await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder.execute("UPDATE users SET email = 'held@example.com' WHERE name = 'dong'").await.unwrap();

    // One request waits for the row with the only connection; the others wait for the connection.
    let mut requests = JoinSet::new();
    for n in 0..20 {
        let client = client.clone();
        requests.spawn(async move {
            let asked = Instant::now();
            client.plain(&PUT.replace("d@", &format!("{n}@"))).await.assert_unavailable("database_unavailable");
            assert!(asked.elapsed() < AT_ONCE, "an answer took {:?}", asked.elapsed());
        });
    }
    requests.join_all().await;
    assert_eq!(client.get("/readyz").await.status, 200, "a full pool is no outage");
    holder.execute("ROLLBACK").await.unwrap();
    wait_until_works(client).await;
    assert_eq!(client.plain(PUT).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_from_a_database_that_is_gone() {
    let database = Database::start().await;
    let url = database.create("users").replace("muster:", "muster:wrong");
    let service = Service::launch(&url, NO_REGISTRY).await;
    let reason = || async { service.client.get("/readyz").await.body["checks"]["database"].clone() };
    wait_for_eq("reason", SOON, json!("it refuses our user or password (error 1045)"), reason).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_was_taken_away_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&format!("sqlite:{}/data/users.db", folder.path().display())).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    // What is put from now on must be in a file that has a name.
    wait_until("the file is there again", SOON, || async {
        // Until the new file is open, it cannot be asked.
        service.client.plain(GET).await.status == 404 && folder.path().join("data/users.db").exists()
    })
    .await;
    assert_eq!(service.client.get("/readyz").await.status, 200);
    assert_eq!(service.client.plain(PUT).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_another_process_holds_is_503_within_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    let service = Service::start(&url).await;
    let mut holder = sqlx::SqliteConnection::connect(&url).await.unwrap();
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    let asked = Instant::now();
    service.client.plain(PUT).await.assert_unavailable("database_unavailable");
    assert!(asked.elapsed() < AT_ONCE);
    assert_eq!(service.client.plain(GET).await.status, 404, "reads go on");
    holder.execute("ROLLBACK").await.unwrap();
    wait_until("put works again", SOON, || async { service.client.plain(PUT).await.status == 200 }).await;
    service.end().await;
}
