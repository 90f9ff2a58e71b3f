//! `/v1/users`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::Service;

async fn start() -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await, folder)
}

#[tokio::test]
async fn a_user_is_created_read_changed_and_deleted() {
    let (service, _folder) = start().await;
    let client = &service.client;

    let created = client.send(Method::POST, "/v1/users", r#"{"name":"dong","email":"d@example.com"}"#).await;
    assert_eq!((created.status, created.header("location")), (201, Some("users/dong")));
    assert_eq!(created.body, json!({"id": 1, "name": "dong", "email": "d@example.com"}));

    let again = client.send(Method::POST, "/v1/users", r#"{"name":"dong","email":"e@example.com"}"#).await;
    assert_eq!((again.status, again.code()), (409, "user_exists"));
    assert_eq!(client.get("/v1/users/dong").await.body, created.body, "a conflict changes nothing");

    let changed = client.send(Method::PUT, "/v1/users/dong", r#"{"email":"e@example.com"}"#).await;
    assert_eq!((changed.status, &changed.body), (200, &json!({"id": 1, "name": "dong", "email": "e@example.com"})));
    let new = client.send(Method::PUT, "/v1/users/ding", r#"{"name":"ding","email":"d@example.com"}"#).await;
    assert_eq!((new.status, new.body), (201, json!({"id": 2, "name": "ding", "email": "d@example.com"})));

    let deleted = client.send(Method::DELETE, "/v1/users/dong", "").await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    for method in [Method::GET, Method::DELETE] {
        let reply = client.send(method, "/v1/users/dong", "").await;
        assert_eq!((reply.status, reply.code()), (404, "no_such_user"));
    }
}

#[tokio::test]
async fn any_name_can_be_part_of_a_path() {
    let (service, _folder) = start().await;
    let client = &service.client;
    for (name, location) in [
        ("a b", "users/a%20b"),
        ("a/b", "users/a%2Fb"),
        ("a?b#c%d", "users/a%3Fb%23c%25d"),
        ("a:b@c", "users/a%3Ab%40c"),
        ("../../etc/passwd", "users/..%2F..%2Fetc%2Fpasswd"),
        ("董", "users/%E8%91%A3"),
        ("😀", "users/%F0%9F%98%80"),
        ("<script>", "users/%3Cscript%3E"),
    ] {
        let body = json!({"name": name, "email": "d@example.com"}).to_string();
        let created = client.send(Method::POST, "/v1/users", &body).await;
        assert_eq!((created.status, created.header("location")), (201, Some(location)), "{name}");
        let found = client.get(&format!("/v1/{location}")).await;
        assert_eq!((found.status, &found.body["name"]), (200, &json!(name)));
    }
}

#[tokio::test]
async fn pages_lead_to_the_end_and_list_everybody_once() {
    let (service, _folder) = start().await;
    let client = &service.client;
    for n in 1..=7 {
        let put = client.send(Method::PUT, &format!("/v1/users/user-{n}"), r#"{"email":"d@example.com"}"#).await;
        assert_eq!(put.status, 201);
    }
    let ids = |page: &Value| -> Vec<i64> {
        page["users"].as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect()
    };
    let first = client.get("/v1/users?limit=3").await;
    assert_eq!((ids(&first.body), &first.body["next"]), (vec![1, 2, 3], &json!(3)));
    let second = client.get("/v1/users?limit=3&after=3").await;
    assert_eq!((ids(&second.body), &second.body["next"]), (vec![4, 5, 6], &json!(6)));
    let third = client.get("/v1/users?limit=3&after=6").await;
    assert_eq!((ids(&third.body), &third.body["next"]), (vec![7], &Value::Null));
    let exact = client.get("/v1/users?limit=7").await;
    assert_eq!((ids(&exact.body).len(), &exact.body["next"]), (7, &Value::Null), "a full last page is the last");
    assert_eq!(ids(&client.get("/v1/users?after=9000000000000000000").await.body), [0_i64; 0]);
}

#[tokio::test]
async fn bad_input_is_refused_by_the_name_of_its_field() {
    let (service, _folder) = start().await;
    let ok = r#"{"email":"d@example.com"}"#;
    let cases: &[(Method, &str, &str, u16, &str)] = &[
        (Method::POST, "/v1/users", r#"{"name":"a"}"#, 422, "email"),
        (Method::POST, "/v1/users", ok, 422, "name"),
        (Method::POST, "/v1/users", r#"{"id":1,"name":"a","email":"a@b.c"}"#, 422, "id"),
        (Method::POST, "/v1/users", r#"{"name":"..","email":"a@b.c"}"#, 422, "name"),
        (Method::POST, "/v1/users", "{", 400, ""),
        (Method::PUT, "/v1/users/a", "{}", 422, "email"),
        (Method::PUT, "/v1/users/a", r#"{"email":"a"}"#, 422, "email"),
        (Method::PUT, "/v1/users/a", r#"{"name":"b","email":"a@b.c"}"#, 422, "name"),
        (Method::PUT, "/v1/users/%20a", ok, 422, "name"),
        (Method::PUT, "/v1/users/a%00", ok, 422, "name"),
        (Method::GET, "/v1/users/%FF", "", 400, ""),
        (Method::GET, "/v1/users?limit=0", "", 422, "limit"),
        (Method::GET, "/v1/users?limit=1001", "", 422, "limit"),
        (Method::GET, "/v1/users?after=dong", "", 422, "after"),
        (Method::GET, "/v1/users?offset=5", "", 422, "offset"),
        (Method::GET, "/v1/users/", "", 404, ""),
        (Method::GET, "/v2/users", "", 404, ""),
        (Method::PATCH, "/v1/users/a", ok, 405, ""),
        (Method::GET, "/", "", 405, ""),
    ];
    for (method, path, body, status, field) in cases {
        let reply = service.client.send(method.clone(), path, body).await;
        let fields = reply.fields();
        assert_eq!(
            (reply.status, *fields.first().unwrap_or(&"")),
            (*status, *field),
            "{method} {path}: {}",
            reply.body
        );
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn queries_are_counted_by_kind_and_outcome() {
    let (service, _folder) = start().await;
    service.client.send(Method::PUT, "/v1/users/a", r#"{"email":"a@b.c"}"#).await;
    service.client.get("/v1/users/nobody").await;
    let metrics = reqwest::get(service.client.address("/metrics")).await.unwrap().text().await.unwrap();
    for line in [
        "userlist_queries_total{query=\"put\",outcome=\"ok\"} 1",
        "userlist_queries_total{query=\"get\",outcome=\"no_such_user\"} 1",
        "userlist_query_duration_seconds_count{query=\"put\"} 1",
        "userlist_database_up 1",
        "heartbeat_registered 0",
        "http_requests_total{route=\"/v1/users/{name}\",method=\"PUT\",status=\"201\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}
