//! A database that an older release made.

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use testkit::database::Database;

use crate::{contract::open, service::Service};

const USERS: [(&str, &str); 4] =
    [("dong", "D@Example.com"), ("Ärne", "a@bücher.example"), ("twin", "d@example.com"), ("'quoted'", "q@example.com")];

fn inserts() -> String {
    let rows: Vec<_> =
        USERS.iter().map(|(name, email)| format!("('{}', '{email}')", name.replace('\'', "''"))).collect();
    format!("INSERT INTO users (name, email) VALUES {}", rows.join(", "))
}

/// As if no release after that with this migration had been here.
fn forget_since(version: u32) -> String {
    format!("DROP TABLE users; DROP TABLE outdated_search_keys; DELETE FROM _sqlx_migrations WHERE version > {version}")
}

async fn everything_works_with_what_was_there(service: &Service) {
    let client = &service.client;
    let list = client.get("/v1/users").await.body;
    assert_eq!(list["total"], 4);
    for (user, (name, email)) in list["users"].as_array().unwrap().iter().zip(USERS) {
        assert_eq!((&user["name"], &user["email"]), (&json!(name), &json!(email)));
        assert_eq!((&user["status"], &user["tags"], &user["version"]), (&json!("active"), &json!([]), &json!(1)));
        assert!(user["created_at"].as_str().unwrap() > "2026", "{user}");
    }
    assert_eq!(client.get("/v1/users?email=d@EXAMPLE.com").await.body["total"], 2);
    assert_eq!(client.get("/v1/users?email=a@xn--bcher-kva.example").await.body["total"], 1);
    assert_eq!(client.get("/v1/users?q=%C3%A4RN").await.body["total"], 1);
    let patched = client.send(Method::PATCH, "/v1/users/dong", r#"{"status":"bounced"}"#).await;
    assert_eq!((patched.status, patched.header("etag")), (200, Some("\"1-2\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_an_older_release_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    // As the release before had it: its migration, and what sqlx notes about it.
    drop(open(&url).await);
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(forget_since(1))).await.unwrap();
    connection.execute(include_str!("../../migrations/sqlite/0001_users.sql")).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(inserts())).await.unwrap();
    connection.close().await.unwrap();
    let service = Service::start(&url).await;
    everything_works_with_what_was_there(&service).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_older_release_are_brought_up_to_date_while_it_goes_on() {
    let database = Database::start().await;
    let url = database.create("users");
    drop(open(&url).await);
    database.sql(&format!(
        "USE users; {}; {}; {}",
        forget_since(1),
        include_str!("../../migrations/mysql/0001_users.sql").trim_end().trim_end_matches(';'),
        inserts()
    ));
    // Times do not depend on where the server is.
    database.sql("SET GLOBAL time_zone = '+11:00'");
    let service = Service::start(&url).await;
    everything_works_with_what_was_there(&service).await;
    // An instance of the older release adds a user; the next start fills in what is missing.
    database.sql("INSERT INTO users.users (name, email) VALUES ('late', 'Late@Example.com')");
    service.end().await;
    let service = Service::start(&url).await;
    assert_eq!(service.client.get("/v1/users?email=late@example.com").await.body["total"], 1);
    let user = service.client.get("/v1/users/late").await.body;
    assert!(user["created_at"].as_str().unwrap() > "2026", "{user}");
    service.end().await;
}

/// Users as the release before the third migration stored them, with its keys.
fn inserts_of_the_second() -> String {
    let rows: Vec<_> = [
        ("Straße", "s@bücher.example", "s@xn--bcher-kva.example"),
        ("ascii", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("plain", "P@example.com", "p@example.com"),
    ]
    .iter()
    .map(|(name, email, key)| {
        let searched = name.to_lowercase();
        format!("('{name}', '{email}', 7, 1000, 2000, '{key}', '{searched}\n{key}')")
    })
    .collect();
    let columns = "name, email, version, created_at, updated_at, email_key, search_key";
    format!("INSERT INTO users ({columns}) VALUES {}", rows.join(", "))
}

async fn what_was_there_is_searched_as_what_is_new(url: &str) {
    let service = Service::start(url).await;
    for (query, count) in
        [("STRASSE", 1), ("bücher", 2), ("xn--bcher", 2), ("s@b%C3%BCcher", 1), ("p@example", 1), ("example", 3)]
    {
        let list = service.client.get(&format!("/v1/users?q={query}")).await.body;
        assert_eq!(list["total"], count, "{query}: {list}");
    }
    let user = service.client.get("/v1/users/Stra%C3%9Fe").await.body;
    let expected = (&json!(7), &json!("1970-01-01T00:00:02.000Z"));
    assert_eq!((&user["version"], &user["updated_at"]), expected, "no change that a request made");
    assert_eq!(service.client.get("/v1/users?email=S@B%C3%9CCHER.example").await.body["total"], 1);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_the_release_before_is_searched_as_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    drop(open(&url).await);
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    for sql in [
        forget_since(2),
        include_str!("../../migrations/sqlite/0001_users.sql").to_owned(),
        include_str!("../../migrations/sqlite/0002_details.sql").to_owned(),
        inserts_of_the_second(),
    ] {
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    connection.close().await.unwrap();
    what_was_there_is_searched_as_what_is_new(&url).await;

    let database = Database::start().await;
    let url = database.create("users");
    drop(open(&url).await);
    for sql in [
        &forget_since(2),
        include_str!("../../migrations/mysql/0001_users.sql"),
        include_str!("../../migrations/mysql/0002_details.sql"),
        &inserts_of_the_second(),
    ] {
        database.sql(&format!("USE users; {sql}"));
    }
    what_was_there_is_searched_as_what_is_new(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_an_address_keeps_it_when_addresses_become_unique() {
    let database = Database::start().await;
    let folder = tempfile::tempdir().unwrap();
    for url in [database.create("users"), format!("sqlite:{}/users.db", folder.path().display())] {
        let service = Service::start(&url).await;
        for (name, email) in [("a", "x@example.com"), ("b", "X@example.com")] {
            let body = format!(r#"{{"email":"{email}"}}"#);
            assert_eq!(service.client.send(Method::PUT, &format!("/v1/users/{name}"), &body).await.status, 201);
        }
        service.end().await;

        let service = Service::launch_with(&url, crate::service::NO_REGISTRY, &["--unique-emails", "true"]).await;
        let client = &service.client;
        client.wait_until_ready().await;
        let put = async |name: &str, email: &str| {
            let reply =
                client.send(Method::PUT, &format!("/v1/users/{name}"), &format!(r#"{{"email":"{email}"}}"#)).await;
            (reply.status, reply.code().to_owned())
        };
        for status in ["bounced", "active"] {
            let body = format!(r#"{{"status":"{status}"}}"#);
            assert_eq!(client.send(Method::PATCH, "/v1/users/a", &body).await.status, 200);
        }
        assert_eq!(put("c", "X@EXAMPLE.com").await, (409, "email_taken".to_owned()));
        assert_eq!(put("c", "c@example.com").await.0, 201);
        assert_eq!(put("d", "C@example.com").await, (409, "email_taken".to_owned()));
        assert_eq!(put("a", "c@example.com").await, (409, "email_taken".to_owned()));
        assert_eq!(put("c", "C@Example.com").await.0, 200, "another spelling of one's own");
        let create = client.send(Method::POST, "/v1/users", r#"{"name":"c","email":"c@example.com"}"#).await;
        assert_eq!(create.code(), "user_exists");
        let file = "name,email\ne,e@example.com\nf,E@example.com\nb,c@example.com\n";
        let report = client.send_with(Method::POST, "/v1/import?format=csv", &[], file).await.body;
        assert_eq!((&report["created"], &report["refused"]), (&json!(1), &json!(2)), "{report}");

        // At the same time, only one of many gets it.
        let mut creates = tokio::task::JoinSet::new();
        for n in 0..10 {
            let client = client.clone();
            creates.spawn(async move {
                let body = format!(r#"{{"name":"racer-{n}","email":"race@example.com"}}"#);
                client.send(Method::POST, "/v1/users", &body).await.status
            });
        }
        let statuses = creates.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        service.end().await;
    }
}
