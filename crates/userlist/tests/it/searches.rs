//! Searches in a long list: bounded, and no obstacle for other requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use sqlx::{Connection as _, Executor as _};
use testkit::{
    database::Database,
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;

use crate::service::{Client, Service};

/// The deadline of 2 s, and what a busy machine adds.
const AT_ONCE: Duration = Duration::from_secs(6);
const USERS: u32 = 20_000;

/// Users whom a search has to read one by one.
async fn fill(url: &str) {
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    let statement = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {USERS})
         INSERT INTO users (name, email, email_key, search_key, tags)
         SELECT 'user ' || i, 'u' || i || '@example.com', 'u' || i || '@example.com',
                'user ' || i || char(10) || 'u' || i || '@example.com ' || hex(zeroblob(100)), '[\"a\"]' FROM n"
    );
    connection.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
}

async fn search(client: Client, n: usize) -> u16 {
    let asked = Instant::now();
    let reply = client.get(&format!("/v1/users?q=nobody{n}")).await;
    assert!(asked.elapsed() < AT_ONCE, "an answer took {:?}", asked.elapsed());
    match reply.status {
        200 => assert_eq!(reply.body["users"].as_array().unwrap().len(), 0),
        _ => reply.assert_unavailable("database_unavailable"),
    }
    reply.status
}

#[tokio::test(flavor = "multi_thread")]
async fn many_searches_at_once_are_bounded_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    let service = Service::start(&url).await;
    fill(&url).await;
    let mut searches = JoinSet::new();
    for n in 0..40 {
        searches.spawn(search(service.client.clone(), n));
    }
    // A pool full of searches would answer 503.
    for n in 1..=20 {
        let path = format!("/v1/users/user%20{}", n * 1000);
        assert_eq!(service.client.get(&path).await.status, 200, "{path}");
        let put = service.client.send(Method::PATCH, &path, r#"{"email":"changed@example.com"}"#).await;
        assert_eq!(put.status, 200, "{:?}", put.body);
    }
    let statuses = searches.join_all().await;
    assert!(statuses.contains(&200), "some had their turn: {statuses:?}");
    wait_until("one alone is answered", SOON, || async { search(service.client.clone(), 0).await == 200 }).await;
    assert_eq!(service.client.get("/readyz").await.status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_takes_too_long_is_ended_in_the_database_as_well() {
    let database = Arc::new(Database::start().await);
    let service = Service::start(&database.create("users")).await;
    let holding = Arc::clone(&database);
    let holding = tokio::task::spawn_blocking(move || holding.sql("LOCK TABLES users.users WRITE; DO SLEEP(6)"));
    wait_until("the table is locked", SOON, || async {
        database.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'DO SLEEP(6)'") == "1\n"
    })
    .await;
    assert_eq!(search(service.client.clone(), 0).await, 503);
    // The client has gone by now, at which the server does not look while a statement is under way.
    wait_until("the server ended it", SOON, || async {
        // MariaDB says "statement", MySQL "execution".
        let status = database.sql("SHOW GLOBAL STATUS LIKE 'Max_%_time_exceeded'");
        status.split_whitespace().last().is_some_and(|count| count != "0")
    })
    .await;
    holding.await.unwrap();
    service.client.wait_until_ready().await;
    wait_until("searches work", SOON, || async { search(service.client.clone(), 0).await == 200 }).await;
    service.end().await;
}
