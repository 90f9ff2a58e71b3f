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
    assert_eq!(created.header("etag"), Some("\"1-1\""));
    let created_at = &created.body["created_at"];
    let updated_at = &created.body["updated_at"];
    assert!(created_at.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{created_at}");
    assert_eq!(
        created.body,
        json!({"id": 1, "name": "dong", "email": "d@example.com", "status": "active", "tags": [], "attributes": {},
               "version": 1, "created_at": created_at, "updated_at": updated_at})
    );

    let again = client.send(Method::POST, "/v1/users", r#"{"name":"dong","email":"e@example.com"}"#).await;
    assert_eq!((again.status, again.code()), (409, "user_exists"));
    assert_eq!(client.get("/v1/users/dong").await.body, created.body, "a conflict changes nothing");

    let changed = client.send(Method::PUT, "/v1/users/dong", r#"{"email":"e@example.com"}"#).await;
    assert_eq!(
        (changed.status, &changed.body["email"], &changed.body["version"]),
        (200, &json!("e@example.com"), &json!(2))
    );
    assert_eq!((&changed.body["id"], &changed.body["created_at"]), (&json!(1), created_at));
    let same = client.send(Method::PUT, "/v1/users/dong", r#"{"email":"e@example.com"}"#).await;
    assert_eq!((same.status, &same.body), (200, &changed.body), "the same again is no new version");
    let new = client.send(Method::PUT, "/v1/users/ding", r#"{"name":"ding","email":"d@example.com"}"#).await;
    assert_eq!((new.status, &new.body["id"]), (201, &json!(2)));
    assert_eq!(client.get("/v1/users/by-id/2").await.body, new.body);

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
async fn a_call_that_knows_only_the_address_does_not_subscribe_again() {
    let (service, _folder) = start().await;
    let client = &service.client;
    let body =
        r#"{"name":"dong","email":"d@example.com","status":"unsubscribed","tags":["vip"],"attributes":{"plan":"pro"}}"#;
    assert_eq!(client.send(Method::POST, "/v1/users", body).await.status, 201);
    client.plain(r#"{"method":"put","name":"dong","email":"e@example.com"}"#).await;
    let put = client.send(Method::PUT, "/v1/users/dong", r#"{"email":"f@example.com"}"#).await;
    assert_eq!((put.status, put.fields()), (422, vec!["status"]));
    let put = client.send(Method::PATCH, "/v1/users/dong?create=true", r#"{"email":"f@example.com"}"#).await.body;
    assert_eq!(
        (&put["status"], &put["tags"], &put["attributes"]),
        (&json!("unsubscribed"), &json!(["vip"]), &json!({"plan": "pro"}))
    );
    let full = r#"{"email":"f@example.com","status":"active","tags":[],"attributes":{}}"#;
    let put = client.send(Method::PUT, "/v1/users/dong", full).await.body;
    assert_eq!((&put["status"], &put["tags"], &put["attributes"]), (&json!("active"), &json!([]), &json!({})));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let (service, _folder) = start().await;
    let client = &service.client;
    let body = r#"{"name":"dong","email":"d@example.com","tags":["a","b"],"attributes":{"plan":"pro","since":2020,"x":{"y":1,"z":2}}}"#;
    let before = client.send(Method::POST, "/v1/users", body).await.body;
    let patch = async |body: &str| client.send(Method::PATCH, "/v1/users/dong", body).await;

    let after = patch(r#"{"status":"bounced"}"#).await.body;
    assert_eq!((&after["status"], &after["tags"], &after["version"]), (&json!("bounced"), &before["tags"], &json!(2)));
    let after =
        patch(r#"{"attributes":{"since":null,"x":{"y":null},"new":[1]},"tags":["c"],"status":null}"#).await.body;
    assert_eq!(after["attributes"], json!({"plan": "pro", "x": {"z": 2}, "new": [1]}));
    assert_eq!((&after["tags"], &after["status"]), (&json!(["c"]), &json!("active")));
    assert_eq!(patch("{}").await.body, after, "nothing named, nothing changed");

    let large = json!({"attributes": {"a": "x".repeat(5000)}}).to_string();
    assert_eq!(patch(&large).await.status, 200);
    let more = patch(&large.replace("\"a\"", "\"b\"")).await;
    assert_eq!((more.status, more.fields()), (422, vec!["attributes"]), "two that fit, but not together");

    client.send(Method::PUT, "/v1/users/ding", r#"{"email":"d@example.com"}"#).await;
    assert_eq!(patch(r#"{"name":"ding"}"#).await.code(), "user_exists");
    let renamed = patch(r#"{"name":"dang"}"#).await;
    assert_eq!((renamed.status, &renamed.body["id"]), (200, &before["id"]));
    assert_eq!(patch("{}").await.code(), "no_such_user");
    let by_id = client.send(Method::PATCH, "/v1/users/by-id/1", r#"{"email":"new@example.com"}"#).await;
    assert_eq!((by_id.status, &by_id.body["name"]), (200, &json!("dang")));
    assert_eq!(client.send(Method::DELETE, "/v1/users/by-id/1", "").await.status, 204);
    assert_eq!(client.get("/v1/users/by-id/1").await.code(), "no_such_user");
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_412_and_changes_nothing() {
    let (service, _folder) = start().await;
    let client = &service.client;
    let body = r#"{"email":"d@example.com"}"#;
    let send = async |method: Method, header: (&str, &str), body: &str| {
        client.send_with(method, "/v1/users/dong", &[header], body.to_owned()).await
    };
    for (header, value) in [("if-match", "*"), ("if-match", "\"1-1\"")] {
        let reply = send(Method::PUT, (header, value), body).await;
        assert_eq!((reply.status, reply.code()), (412, "condition_failed"), "no user is there");
    }
    assert_eq!(send(Method::PUT, ("if-none-match", "*"), body).await.status, 201);
    assert_eq!(send(Method::PUT, ("if-none-match", "*"), body).await.status, 412, "a user is there");

    let etag = client.get("/v1/users/dong").await.header("etag").unwrap().to_owned();
    let known = send(Method::GET, ("if-none-match", &etag), "").await;
    assert_eq!((known.status, known.header("etag"), &known.body), (304, Some(&*etag), &Value::Null));
    let changed = send(Method::PATCH, ("if-match", &etag), r#"{"status":"bounced"}"#).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(&*etag));
    for (method, body) in [(Method::PATCH, r#"{"status":"active"}"#), (Method::PUT, body), (Method::DELETE, "")] {
        assert_eq!(send(method, ("if-match", &etag), body).await.status, 412, "another change came in between");
    }
    assert_eq!(client.get("/v1/users/dong").await.body, changed.body);
    assert_eq!(send(Method::GET, ("if-none-match", &etag), "").await.status, 200);
    let newest = changed.header("etag").unwrap();
    assert_eq!(send(Method::DELETE, ("if-match", newest), "").await.status, 204);
    assert_eq!(send(Method::PUT, ("if-none-match", "*"), body).await.status, 201);
    assert_eq!(send(Method::DELETE, ("if-match", newest), "").await.status, 412, "another one of the same name");
}

#[tokio::test]
async fn users_are_found_by_status_tag_text_and_address() {
    let (service, _folder) = start().await;
    let client = &service.client;
    for body in [
        r#"{"name":"Anna","email":"Anna@Example.com","tags":["vip","a_b"]}"#,
        r#"{"name":"Ärne","email":"arne@example.org","tags":["vip2"],"status":"bounced"}"#,
        r#"{"name":"100%","email":"p@bücher.example","tags":["vip"],"status":"unsubscribed"}"#,
        r#"{"name":"twin","email":"anna@EXAMPLE.com"}"#,
    ] {
        assert_eq!(client.send(Method::POST, "/v1/users", body).await.status, 201);
    }
    for (query, names) in [
        ("", vec!["Anna", "Ärne", "100%", "twin"]),
        ("status=active", vec!["Anna", "twin"]),
        ("tag=vip", vec!["Anna", "100%"]),
        ("tag=vip&status=active", vec!["Anna"]),
        ("tag=a_b", vec!["Anna"]),
        ("tag=aXb", vec![]),
        ("q=ANN", vec!["Anna", "twin"]),
        ("q=%C3%A4RN", vec!["Ärne"]),
        ("q=%25", vec!["100%"]),
        ("q=_", vec![]),
        ("q=example.org", vec!["Ärne"]),
        ("email=ANNA@example.COM", vec!["Anna", "twin"]),
        ("email=p@xn--bcher-kva.example", vec!["100%"]),
        ("name=twin", vec!["twin"]),
        ("name=Twin", vec![]),
        ("sort=name", vec!["100%", "Anna", "twin", "Ärne"]),
        ("sort=-name&status=active", vec!["twin", "Anna"]),
        ("sort=-created_at", vec!["twin", "100%", "Ärne", "Anna"]),
        ("sort=email", vec!["Anna", "twin", "Ärne", "100%"]),
    ] {
        let reply = client.get(&format!("/v1/users?{query}")).await;
        let found: Vec<_> =
            reply.body["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
        assert_eq!((found, &reply.body["total"]), (names.clone(), &json!(names.len())), "{query}");
    }
}

#[tokio::test]
async fn pages_lead_to_the_end_and_list_each_user_once() {
    let (service, _folder) = start().await;
    let client = &service.client;
    for n in 1..=7 {
        let put = client.send(Method::PUT, &format!("/v1/users/user-{n}"), r#"{"email":"d@example.com"}"#).await;
        assert_eq!(put.status, 201);
    }
    for (order, mut left) in [
        ("id", vec![1, 2, 3, 4, 5, 6, 7]),
        ("-name", vec![7, 6, 5, 4, 3, 2, 1]),
        ("email", vec![1, 2, 3, 4, 5, 6, 7]),
        ("-email", vec![7, 6, 5, 4, 3, 2, 1]),
        ("-updated_at", vec![7, 6, 5, 4, 3, 2, 1]),
    ] {
        let mut query = format!("/v1/users?sort={order}&limit=3");
        loop {
            let page = client.get(&query).await;
            assert_eq!((page.status, &page.body["total"]), (200, &json!(7)), "{query}");
            for user in page.body["users"].as_array().unwrap() {
                assert_eq!(user["id"], json!(left.remove(0)), "{query}");
            }
            let Some(cursor) = page.body["next_cursor"].as_str() else { break };
            query = format!("/v1/users?sort={order}&limit=3&cursor={cursor}");
        }
        assert_eq!(left, [0_i64; 0], "{order}");
    }
    let exact = client.get("/v1/users?limit=7").await;
    assert_eq!(
        (exact.body["users"].as_array().unwrap().len(), &exact.body["next_cursor"]),
        (7, &Value::Null),
        "a full last page is the last"
    );
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
        (Method::GET, "/v1/users?cursor=dong", "", 422, "cursor"),
        (Method::GET, "/v1/users/by-id/dong", "", 422, "id"),
        (Method::GET, "/v1/users/by-id/0", "", 422, "id"),
        (Method::POST, "/v1/users", r#"{"name":"a","email":"a@b.c","status":"away"}"#, 422, "status"),
        (Method::POST, "/v1/users", r#"{"name":"a","email":"a@b.c","tags":["a b"]}"#, 422, "tags"),
        (Method::POST, "/v1/users", r#"{"name":"a","email":"a@b.c","tags":[1]}"#, 422, "tags[0]"),
        (Method::POST, "/v1/users", r#"{"name":"a","email":"a@b.c","attributes":[]}"#, 422, "attributes"),
        (Method::PATCH, "/v1/users/a", r#"{"id":2}"#, 422, "id"),
        (Method::PATCH, "/v1/users/a", r#"{"name":null}"#, 422, "name"),
        (Method::PATCH, "/v1/users/a", "[]", 422, "body"),
        (Method::GET, "/v1/users?offset=5", "", 422, "offset"),
        (Method::GET, "/v1/users/", "", 404, ""),
        (Method::GET, "/v2/users", "", 404, ""),
        (Method::POST, "/v1/users/a", ok, 405, ""),
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
