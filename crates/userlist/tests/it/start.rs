//! Several instances start at once, on nothing or on what others left.

use std::collections::BTreeSet;

use reqwest::Method;
use testkit::{
    database::Database,
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;

use crate::{
    contract::{launch, open, upsert, user},
    process::Userlist,
    service::Client,
};

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_on_an_empty_server_migrate_it_once() {
    let database = Database::start().await;
    let url = database.create("users");
    let instances: Vec<_> = (0..8).map(|_| launch(&url)).collect();
    for instance in &instances {
        wait_until("every instance opens", SOON, || async { instance.store.outage().is_none() }).await;
    }
    assert_eq!(database.sql("SELECT version, success FROM users._sqlx_migrations"), "1\t1\n2\t1\n3\t1\n");
    for (n, instance) in instances.iter().enumerate() {
        upsert(&instance.store, &user("dong", &format!("u{n}@example.com"))).await.unwrap();
    }
    assert_eq!(database.sql("SELECT COUNT(*), MAX(email) FROM users.users"), "1\tu7@example.com\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_killed_in_the_middle_of_a_migration_blocks_no_other() {
    let database = Database::start().await;
    let url = database.create("users");
    drop(open(&url).await);
    // As it is left when the process is killed after the table was made and before that was noted.
    database.sql("UPDATE users._sqlx_migrations SET success = 0");
    let opened = open(&url).await;
    assert_eq!(database.sql("SELECT version, success FROM users._sqlx_migrations"), "1\t1\n2\t1\n3\t1\n");
    drop(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_starts_beside_a_newer_one() {
    let database = Database::start().await;
    let url = database.create("users");
    drop(open(&url).await);
    database.sql("INSERT INTO users._sqlx_migrations VALUES (9999, 'later', NOW(), 1, 'x', 1)");
    open(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_on_one_new_file_all_serve_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/new/folder/users.db", folder.path().display());
    let instances: Vec<_> = (0..4).map(|_| Userlist::start(folder.path(), &url)).collect();
    for instance in &instances {
        instance.client.wait_until_ready().await;
    }

    // One name through all of them at once: one user, no error.
    let mut puts = JoinSet::new();
    for n in 0..80 {
        let client = instances[n % instances.len()].client.clone();
        puts.spawn(async move { put(&client, "dong", n).await });
    }
    let ids: BTreeSet<_> = puts.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1, "one user, one id: {ids:?}");

    // And different ones: no user is lost.
    let mut puts = JoinSet::new();
    for n in 0..80 {
        let client = instances[n % instances.len()].client.clone();
        puts.spawn(async move { put(&client, &format!("user-{n}"), n).await });
    }
    puts.join_all().await;
    for instance in &instances {
        let list = instance.client.get("/v1/users?limit=1000").await;
        assert_eq!(list.body["users"].as_array().unwrap().len(), 81);
    }
}

async fn put(client: &Client, name: &str, n: usize) -> i64 {
    let body = format!(r#"{{"email":"u{n}@example.com"}}"#);
    let reply = client.send(Method::PUT, &format!("/v1/users/{name}"), &body).await;
    assert!(matches!(reply.status, 200 | 201), "{:?}", reply.body);
    reply.body["id"].as_i64().unwrap()
}
