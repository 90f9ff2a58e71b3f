//! Users in a file, read in both ways: on the thread that serves the request, where the runtime has several, and over
//! the pool, where it has one.

use std::path::Path;

use reqwest::Method;
use rusqlite::Connection;
use serde_json::json;
use testkit::wait::{SOON, wait_for_eq, wait_until};
use tokio::task::JoinSet;

use crate::service::Service;

const PUT: &str = r#"{"method":"put","name":"dong","email":"d@example.com"}"#;
const GET: &str = r#"{"method":"get","name":"dong"}"#;

async fn start(folder: &Path) -> Service {
    Service::start(&format!("sqlite:{}/users.db", folder.display())).await
}

async fn every_reader_sees_what_was_answered_before() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path()).await;
    for round in 0..30 {
        let email = format!("d{round}@example.com");
        assert_eq!(service.client.plain(&PUT.replace("d@example.com", &email)).await.status, 200);
        let mut readers = JoinSet::new();
        for _ in 0..8 {
            let client = service.client.clone();
            readers.spawn(async move { client.get("/v1/users/dong").await.body["email"].clone() });
        }
        assert_eq!(readers.join_all().await, vec![json!(email); 8]);
    }
    assert_eq!(service.client.send(Method::DELETE, "/v1/users/dong", "").await.status, 204);
    assert_eq!(service.client.get("/v1/users/dong").await.status, 404);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_reader_sees_what_was_answered_before_on_this_thread() {
    every_reader_sees_what_was_answered_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_reader_sees_what_was_answered_before_over_the_pool() {
    every_reader_sees_what_was_answered_before().await;
}

async fn a_damaged_user_is_503_and_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path()).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);
    assert_eq!(service.client.plain(&PUT.replace("dong", "ding")).await.status, 200);
    let other = Connection::open(folder.path().join("users.db")).unwrap();
    other.execute("UPDATE users SET status = 'of a newer release' WHERE name = 'dong'", ()).unwrap();
    service.client.plain(GET).await.assert_unavailable("database_unavailable");
    assert_eq!(service.client.plain(&GET.replace("dong", "ding")).await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_user_is_503_and_others_are_read_on_this_thread() {
    a_damaged_user_is_503_and_others_are_read().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_damaged_user_is_503_and_others_are_read_over_the_pool() {
    a_damaged_user_is_503_and_others_are_read().await;
}

async fn a_table_that_is_gone_is_503_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path()).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);
    assert_eq!(service.client.plain(GET).await.status, 200);
    let other = Connection::open(folder.path().join("users.db")).unwrap();
    other.execute("DROP TABLE users", ()).unwrap();
    service.client.plain(GET).await.assert_unavailable("database_unavailable");
    let reason = || async { service.client.get("/readyz").await.body["checks"]["database"].clone() };
    let expected = json!("its tables are missing or of another making (SQLite error 1)");
    wait_for_eq("the reason", SOON, expected, reason).await;
    service.client.plain(GET).await.assert_unavailable("database_unavailable");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_that_is_gone_is_503_with_its_reason_on_this_thread() {
    a_table_that_is_gone_is_503_with_its_reason().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_table_that_is_gone_is_503_with_its_reason_over_the_pool() {
    a_table_that_is_gone_is_503_with_its_reason().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_of_a_file_that_replaces_another_are_read_soon() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = &folders;
    let service = start(other.path()).await;
    assert_eq!(service.client.plain(&PUT.replace("d@", "other@")).await.status, 200);
    service.end().await;

    let service = start(one.path()).await;
    assert_eq!(service.client.plain(PUT).await.status, 200);
    assert_eq!(service.client.plain(GET).await.body["email"], "d@example.com");
    std::fs::rename(other.path().join("users.db"), one.path().join("users.db")).unwrap();
    for log in ["users.db-wal", "users.db-shm"] {
        std::fs::remove_file(one.path().join(log)).unwrap();
    }
    wait_until("the other file is read", SOON, || async {
        service.client.plain(GET).await.body["email"] == "other@example.com"
    })
    .await;
    service.end().await;
}
