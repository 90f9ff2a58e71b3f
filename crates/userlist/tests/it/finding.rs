//! What is found, and what is done to all that is found; on SQLite and on a server alike.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::database::Database;

use crate::service::{Client, Service};

const USERS: [&str; 6] = [
    r#"{"name":"Straße","email":"jörg@BÜCHER.example","tags":["a"],"attributes":{"plan":"pro","size":7,"deep":{"x":true}}}"#,
    r#"{"name":"ΣΟΦΟΣ","email":"s@xn--bcher-kva.example","attributes":{"plan":"Pro","size":"7"}}"#,
    r#"{"name":"Ǆ","email":"d@straße.example","attributes":{"plan":"prö\"","n":"\u0001"}}"#,
    r#"{"name":"plain","email":"p@example.com","tags":["a","b"],"attributes":{"a.b":"pro"}}"#,
    r#"{"name":"import","email":"i@example.com","status":"unsubscribed","attributes":{"plan":null}}"#,
    r#"{"name":"export","email":"e@example.com","status":"bounced"}"#,
];

/// The same on each kind of database.
async fn on_each(promise: impl AsyncFn(&Client)) {
    let database = Database::start().await;
    let folder = tempfile::tempdir().unwrap();
    for url in [database.create("users"), format!("sqlite:{}/users.db", folder.path().display())] {
        let service = Service::start(&url).await;
        for body in USERS {
            let created = service.client.send(Method::POST, "/v1/users", body).await;
            assert_eq!(created.status, 201, "{body}: {}", created.body);
        }
        promise(&service.client).await;
        service.end().await;
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["users"].as_array().into_iter().flatten().filter_map(|user| user["name"].as_str()).collect()
}

async fn assert_found(client: &Client, query: &str, expected: &[&str]) {
    let list = client.get(&format!("/v1/users?{query}")).await.body;
    assert_eq!((names(&list), &list["total"]), (expected.to_vec(), &json!(expected.len())), "{query}: {list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_knows_no_case_in_any_script_and_both_spellings_of_a_domain() {
    on_each(async |client| {
        for (query, expected) in [
            ("q=STRASSE", &["Straße", "Ǆ"][..]),
            ("q=straße", &["Straße", "Ǆ"]),
            ("q=straẞe", &["Straße", "Ǆ"]),
            ("q=σοφοσ", &["ΣΟΦΟΣ"]),
            ("q=σοφος", &["ΣΟΦΟΣ"]),
            ("q=ǆ", &["Ǆ"]),
            ("q=bücher", &["Straße", "ΣΟΦΟΣ"]),
            ("q=BÜCHER.example", &["Straße", "ΣΟΦΟΣ"]),
            ("q=xn--bcher-kva", &["Straße", "ΣΟΦΟΣ"]),
            ("q=XN--BCHER", &["Straße", "ΣΟΦΟΣ"]),
            ("q=jörg@bücher.example", &["Straße"]),
            ("q=JÖRG@xn--bcher-kva.example", &["Straße"]),
            ("q=s@b%C3%BCcher", &["ΣΟΦΟΣ"]),
            ("q=xn--strae-oqa", &["Ǆ"]),
        ] {
            assert_found(client, query, expected).await;
        }
        // Another address is found by its own spellings, and no more by those of before.
        client.send(Method::PATCH, "/v1/users/plain", r#"{"email":"p@Köln.example"}"#).await;
        assert_found(client, "q=köln", &["plain"]).await;
        assert_found(client, "q=p@example.com", &[]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_attribute_and_by_time() {
    on_each(async |client| {
        for (query, expected) in [
            ("attributes.plan=pro", &["Straße"][..]),
            ("attributes.plan=Pro", &["ΣΟΦΟΣ"]),
            ("attributes.plan=pr%C3%B6%22", &["Ǆ"]),
            ("attributes.n=%01", &["Ǆ"]),
            ("attributes.size=7", &["Straße", "ΣΟΦΟΣ"]),
            ("attributes.size=7&attributes.plan=pro", &["Straße"]),
            ("attributes.deep.x=true", &["Straße"]),
            ("attributes.deep=true", &[]),
            ("attributes.a.b=pro", &[]),
            ("attributes.plan=pro&status=bounced", &[]),
            ("created_since=2026-01-01&tag=a", &["Straße", "plain"]),
            ("created_before=2026-01-01", &[]),
            ("updated_since=2026-01-01T00:00:00%2B01:00&q=import", &["import"]),
            ("updated_before=2100-01-01&sort=-updated_at&status=bounced", &["export"]),
        ] {
            assert_found(client, query, expected).await;
        }
        let changed = client.send(Method::PATCH, "/v1/users/plain", r#"{"tags":[]}"#).await.body;
        let since = changed["updated_at"].as_str().unwrap();
        assert!(names(&client.get(&format!("/v1/users?updated_since={since}")).await.body).contains(&"plain"));
        assert!(!names(&client.get(&format!("/v1/users?updated_before={since}")).await.body).contains(&"plain"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_changed_and_deleted_at_once_as_the_dry_run_said() {
    on_each(async |client| {
        let lines: String = (0..1200).map(|n| format!("many-{n},m{n}@example.com,many\n")).collect();
        let file = format!("name,email,tags\n{lines}");
        assert_eq!(client.send_with(Method::POST, "/v1/import?format=csv", &[], file).await.body["created"], 1200);
        let both = async |method: Method, query: &str, body: &str| {
            let path = format!("/v1/users?{query}");
            let before = client.get("/v1/users?limit=1000&sort=-id").await.body;
            let tried = client.send(method.clone(), &format!("{path}&dry_run=true"), body).await.body;
            assert_eq!(client.get("/v1/users?limit=1000&sort=-id").await.body, before, "it changes nothing");
            let done = client.send(method, &path, body).await.body;
            assert_eq!(
                (&tried["dry_run"], &done["is_complete"], &done["next_cursor"]),
                (&json!(true), &json!(true), &Value::Null),
                "{done}"
            );
            for count in ["changed", "unchanged", "deleted", "refused", "errors"] {
                assert_eq!(tried[count], done[count], "{path}");
            }
            done
        };
        let done =
            both(Method::PATCH, "tag=many", r#"{"add_tags":["new"],"remove_tags":["b"],"attributes":{"x":1}}"#).await;
        assert_eq!((&done["changed"], &done["unchanged"], &done["refused"]), (&json!(1200), &json!(0), &json!(0)));
        let done = both(Method::PATCH, "tag=many", r#"{"add_tags":["new"]}"#).await;
        assert_eq!((&done["changed"], &done["unchanged"]), (&json!(0), &json!(1200)), "the same again");
        let done = both(Method::PATCH, "tag=a", r#"{"status":"unsubscribed","remove_tags":["b","a"]}"#).await;
        assert_eq!(done["changed"], 2);
        assert_found(client, "tag=a", &[]).await;
        let tags: Vec<_> = (0..32).map(|n| format!("t{n}")).collect();
        client.send(Method::PATCH, "/v1/users/many-7", &json!({ "tags": tags }).to_string()).await;
        let done = both(Method::PATCH, "name=many-7", r#"{"add_tags":["one-more"]}"#).await;
        assert_eq!((&done["refused"], &done["errors"][0]["field"]), (&json!(1), &json!("tags")), "{done}");
        let done = both(Method::DELETE, "tag=new&attributes.x=1", "").await;
        assert_eq!(done["deleted"], 1199);
        let done = both(Method::DELETE, "all=true", "").await;
        assert_eq!((&done["deleted"], &client.get("/v1/users").await.body["total"]), (&json!(7), &json!(0)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_are_changed_and_imported_while_others_change_them_again_and_again() {
    on_each(async |client| {
        let lines: String = (0..1000).map(|n| format!("many-{n},m{n}@example.com,many\n")).collect();
        let file = format!("name,email,tags\n{lines}");
        let import = async || client.send_with(Method::POST, "/v1/import?format=csv", &[], file.clone()).await;
        assert_eq!(import().await.body["created"], 1000);
        let is_over = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..4)
            .map(|other| {
                let client = client.clone();
                let is_over = Arc::clone(&is_over);
                tokio::spawn(async move {
                    let mut count = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        count += 1;
                        let path = format!("/v1/users/many-{}", count % 10);
                        let body = json!({ "attributes": { format!("c{other}"): count } }).to_string();
                        let reply = client.send(Method::PATCH, &path, &body).await;
                        assert_eq!(reply.status, 200, "{}", reply.body);
                    }
                    count
                })
            })
            .collect();
        for tag in ["one", "two"] {
            let body = json!({ "add_tags": [tag] }).to_string();
            let reply = client.send(Method::PATCH, "/v1/users?tag=many", &body).await;
            assert_eq!((reply.status, &reply.body["changed"]), (200, &json!(1000)), "{}", reply.body);
        }
        let reply = import().await;
        assert_eq!((reply.status, &reply.body["changed"]), (200, &json!(1000)), "{}", reply.body);
        is_over.store(true, Ordering::SeqCst);
        for (other, task) in others.into_iter().enumerate() {
            let count: u64 = task.await.unwrap();
            let last = client.get(&format!("/v1/users/many-{}", count % 10)).await.body;
            assert_eq!(last["attributes"][format!("c{other}")], count, "no change is lost: {last}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_to_many_that_does_not_say_to_whom_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await;
    service.client.send(Method::POST, "/v1/users", USERS[0]).await;
    for (method, query, body, field) in [
        (Method::DELETE, "", "", "all"),
        (Method::DELETE, "dry_run=true", "", "all"),
        (Method::DELETE, "status=", "", "status"),
        (Method::DELETE, "tag=a&status=", "", "status"),
        (Method::DELETE, "tag=a&q=%20", "", "q"),
        (Method::DELETE, "tag=a&dry_run", "", "dry_run"),
        (Method::DELETE, "tag=a&dry_run=", "", "dry_run"),
        (Method::DELETE, "all", "", "all"),
        (Method::PATCH, "tag=a&attributes.plan=", r#"{"add_tags":["x"]}"#, "attributes.plan"),
        (Method::DELETE, "tag=a&all=true", "", "all"),
        (Method::DELETE, "tga=a", "", "tga"),
        (Method::DELETE, "tag=a&limit=1", "", "limit"),
        (Method::DELETE, "tag=a&cursor=x", "", "cursor"),
        (Method::PATCH, "tag=a", "{}", "body"),
        (Method::PATCH, "tag=a", r#"{"email":"a@b.c"}"#, "email"),
        (Method::PATCH, "tag=a", r#"{"add_tags":["x"],"remove_tags":["x"]}"#, "remove_tags"),
        (Method::PATCH, "tag=a", r#"{"add_tags":["a b"]}"#, "add_tags"),
        (Method::PATCH, "", r#"{"add_tags":["x"]}"#, "all"),
    ] {
        let reply = service.client.send(method.clone(), &format!("/v1/users?{query}"), body).await;
        assert_eq!((reply.status, reply.fields()), (422, vec![field]), "{method} {query} {body}: {}", reply.body);
    }
    assert_eq!(service.client.get("/v1/users/Stra%C3%9Fe").await.body["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_attributes_than_a_database_takes_conditions_are_refused() {
    on_each(async |client| {
        let query: Vec<String> = (0..1200).map(|n| format!("attributes.a{n}=1")).collect();
        for (count, status) in [(16, 200), (17, 422), (1200, 422)] {
            let reply = client.get(&format!("/v1/users?{}", query[..count].join("&"))).await;
            assert_eq!(reply.status, status, "{count}: {}", reply.body);
        }
    })
    .await;
}

#[tokio::test]
async fn a_flag_without_a_value_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await;
    for (method, path, field) in [
        (Method::POST, "/v1/import?format=csv&dry_run", "dry_run"),
        (Method::POST, "/v1/import?format=csv&dry_run=", "dry_run"),
        (Method::POST, "/v1/import?format=csv&ignore_columns", "ignore_columns"),
        (Method::POST, "/v1/import?format=csv&add_tag=", "add_tag"),
        (Method::GET, "/v1/export?spreadsheet", "spreadsheet"),
        (Method::PATCH, "/v1/users/a?create", "create"),
    ] {
        let body = if method == Method::PATCH { "{}" } else { "name,email\na,a@b.c\n" };
        let reply = service.client.send(method, path, body).await;
        assert_eq!((reply.status, reply.fields()), (422, vec![field]), "{path}: {}", reply.body);
    }
    assert_eq!(service.client.get("/v1/users").await.body["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_with_the_names_of_paths_are_users() {
    on_each(async |client| {
        for name in ["import", "export", "by-id"] {
            let path = format!("/v1/users/{name}");
            let put = client.send(Method::PUT, &path, r#"{"email":"x@example.com","status":"active"}"#).await;
            assert!(put.status == 200 || put.status == 201, "{}", put.body);
            assert_eq!(client.get(&path).await.body["name"], json!(name));
            let patched = client.send(Method::PATCH, &path, r#"{"status":"bounced"}"#).await;
            assert_eq!(patched.body["status"], "bounced");
            assert_eq!(client.send(Method::DELETE, &path, "").await.status, 204);
            assert_eq!(client.get(&path).await.code(), "no_such_user");
        }
        let import = client.send(Method::POST, "/v1/users/import?format=csv", "name,email\nz,z@b.c\n").await;
        assert_eq!(import.body["created"], 1, "the path of older releases imports");
        let post = client.send(Method::POST, "/v1/users/z", "{}").await;
        assert_eq!((post.status, post.header("allow")), (405, Some("GET,HEAD,PUT,PATCH,DELETE")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_replaces_and_loses_nothing_that_its_body_does_not_name() {
    on_each(async |client| {
        let put = async |body: &str| client.send(Method::PUT, "/v1/users/Stra%C3%9Fe", body).await;
        let before = client.get("/v1/users/Stra%C3%9Fe").await.body;
        for (body, field) in [
            (r#"{"email":"x@example.com"}"#, "tags"),
            (r#"{"email":"x@example.com","tags":["b"]}"#, "attributes"),
            (r#"{"email":"x@example.com","tags":null,"attributes":{}}"#, "tags"),
        ] {
            let reply = put(body).await;
            assert_eq!((reply.status, reply.fields()), (422, vec![field]), "{body}: {}", reply.body);
        }
        assert_eq!(client.get("/v1/users/Stra%C3%9Fe").await.body, before, "a refusal changes nothing");
        let replaced = put(r#"{"email":"x@example.com","tags":[],"attributes":{"n":1}}"#).await.body;
        assert_eq!(
            (&replaced["tags"], &replaced["attributes"]),
            (&json!([]), &json!({"n": 1})),
            "attributes are not merged"
        );
        let replaced = put(r#"{"email":"y@example.com","attributes":{}}"#).await;
        assert_eq!((replaced.status, &replaced.body["version"]), (200, &json!(3)));
        let again = put(r#"{"email":"y@example.com"}"#).await;
        assert_eq!((again.status, &again.body), (200, &replaced.body), "the same again is the same");
        let reply = client.send(Method::PUT, "/v1/users/import", r#"{"email":"x@example.com"}"#).await;
        assert_eq!((reply.status, reply.fields()), (422, vec!["status"]), "no user is subscribed again by the way");

        // What merges says so: PATCH, which can create.
        let patch = async |path: &str, body: &str| client.send(Method::PATCH, path, body).await;
        let reply = patch("/v1/users/import?create=true", r#"{"email":"new@example.com"}"#).await;
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("unsubscribed")));
        assert_eq!(patch("/v1/users/nobody", r#"{"email":"n@example.com"}"#).await.code(), "no_such_user");
        assert_eq!(patch("/v1/users/nobody?create=true", r#"{"tags":["a"]}"#).await.fields(), ["email"]);
        let created =
            patch("/v1/users/nobody?create=true", r#"{"email":"n@example.com","attributes":{"a":1,"b":null}}"#).await;
        assert_eq!((created.status, &created.body["attributes"]), (201, &json!({"a": 1})));
        assert_eq!(patch("/v1/users/nobody?create=yes", "{}").await.fields(), ["create"]);
    })
    .await;
}
