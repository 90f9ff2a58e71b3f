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
    connection.execute("DROP TABLE users; DELETE FROM _sqlx_migrations WHERE version = 2").await.unwrap();
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
        "USE users; DROP TABLE users; DELETE FROM _sqlx_migrations WHERE version = 2; {}; {}",
        include_str!("../../migrations/mysql/0001_users.sql").trim_end().trim_end_matches(';'),
        inserts()
    ));
    // Times do not depend on where the server is.
    database.sql("SET GLOBAL time_zone = '+11:00'");
    let service = Service::start(&url).await;
    everything_works_with_what_was_there(&service).await;
    // An instance of the older release adds somebody; the next start fills in what they lack.
    database.sql("INSERT INTO users.users (name, email) VALUES ('late', 'Late@Example.com')");
    service.end().await;
    let service = Service::start(&url).await;
    assert_eq!(service.client.get("/v1/users?email=late@example.com").await.body["total"], 1);
    let user = service.client.get("/v1/users/late").await.body;
    assert!(user["created_at"].as_str().unwrap() > "2026", "{user}");
    service.end().await;
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
        assert_eq!(client.send(Method::PATCH, "/v1/users/a", r#"{"status":"bounced"}"#).await.status, 200);
        assert_eq!(put("c", "X@EXAMPLE.com").await, (409, "email_taken".to_owned()));
        assert_eq!(put("c", "c@example.com").await.0, 201);
        assert_eq!(put("d", "C@example.com").await, (409, "email_taken".to_owned()));
        assert_eq!(put("a", "c@example.com").await, (409, "email_taken".to_owned()));
        assert_eq!(put("c", "C@Example.com").await.0, 200, "another spelling of one's own");
        let create = client.send(Method::POST, "/v1/users", r#"{"name":"c","email":"c@example.com"}"#).await;
        assert_eq!(create.code(), "user_exists");
        let file = "name,email\ne,e@example.com\nf,E@example.com\nb,c@example.com\n";
        let report = client.send_with(Method::POST, "/v1/users/import?format=csv", &[], file).await.body;
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
