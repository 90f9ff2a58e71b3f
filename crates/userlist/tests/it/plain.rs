//! `POST /`.

use serde_json::json;

use crate::service::Service;

async fn start() -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await, folder)
}

#[tokio::test]
async fn put_get_del_as_the_readme_shows_them() {
    let (service, _folder) = start().await;
    let client = &service.client;

    let put = client.plain(r#"{"method":"put","name":"dong","email":"d@example.com"}"#).await;
    assert_eq!((put.status, put.body), (200, json!({"id": 1, "name": "dong", "email": "d@example.com"})));

    let get = client.plain(r#"{"method":"get","name":"dong"}"#).await;
    assert_eq!((get.status, get.body), (200, json!({"id": 1, "name": "dong", "email": "d@example.com"})));
    assert_eq!(get.headers["content-type"], "application/json");

    let put = client.plain(r#"{"method":"put","name":"dong","email":"new@example.com"}"#).await;
    assert_eq!((put.status, put.body), (200, json!({"id": 1, "name": "dong", "email": "new@example.com"})));

    let del = client.plain(r#"{"method":"del","name":"dong"}"#).await;
    assert_eq!((del.status, del.body), (200, json!({"message": "success"})));

    for body in [r#"{"method":"get","name":"dong"}"#, r#"{"method":"del","name":"dong"}"#] {
        let reply = client.plain(body).await;
        assert_eq!((reply.status, reply.code()), (404, "no_such_user"), "{body}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    service.end().await;
}

#[tokio::test]
async fn bad_input_is_refused_by_the_name_of_its_field() {
    let (service, _folder) = start().await;
    let long = format!(r#"{{"method":"get","name":"{}"}}"#, "x".repeat(70_000));
    let cases: &[(&str, u16, &[&str])] = &[
        ("", 400, &[]),
        ("{", 400, &[]),
        ("name=dong", 400, &[]),
        ("\u{feff}{}", 400, &[]),
        ("[]", 422, &["body"]),
        ("null", 422, &["body"]),
        ("{}", 422, &["method"]),
        (r#"{"method":"get"}"#, 422, &["name"]),
        (r#"{"method":"post","name":"dong"}"#, 422, &["method"]),
        (r#"{"method":"GET","name":"dong"}"#, 422, &["method"]),
        (r#"{"method":1,"name":"dong"}"#, 422, &["method"]),
        (r#"{"method":"get","name":1}"#, 422, &["name"]),
        (r#"{"method":"get","name":null}"#, 422, &["name"]),
        (r#"{"method":"get","name":["dong"]}"#, 422, &["name"]),
        (r#"{"method":"get","name":""}"#, 422, &["name"]),
        (r#"{"method":"get","name":" dong"}"#, 422, &["name"]),
        (r#"{"method":"get","name":"do\u0000ng"}"#, 422, &["name"]),
        (r#"{"method":"get","name":"\ud800"}"#, 400, &[]),
        (r#"{"method":"get","name":"dong","name":"ding"}"#, 422, &["name"]),
        (r#"{"method":"get","name":"dong","id":1}"#, 422, &["id"]),
        (r#"{"method":"get","name":"dong","email":"d@example.com"}"#, 422, &["email"]),
        (r#"{"method":"del","name":"dong","email":"d@example.com"}"#, 422, &["email"]),
        (r#"{"method":"put","name":"dong"}"#, 422, &["email"]),
        (r#"{"method":"put","name":"dong","email":null}"#, 422, &["email"]),
        (r#"{"method":"put","name":"dong","email":"nowhere"}"#, 422, &["email"]),
        (r#"{"method":"put","name":"dong","email":"a@b.c\r\nBcc: x@y.z"}"#, 422, &["email"]),
        (r#"{"method":"put","name":"","email":""}"#, 422, &["name", "email"]),
        (&long, 413, &[]),
    ];
    for (body, status, fields) in cases {
        let reply = service.client.plain(body).await;
        assert_eq!((reply.status, reply.fields()), (*status, fields.to_vec()), "{body:.60}: {}", reply.body);
    }
    let list = service.client.get("/v1/users").await;
    assert_eq!(list.body, json!({"users": [], "next_cursor": null, "total": 0}), "nothing was stored by any of them");
}

#[tokio::test]
async fn an_empty_email_is_no_email() {
    let (service, _folder) = start().await;
    for method in ["get", "del"] {
        for email in ["\"\"", "null"] {
            let reply =
                service.client.plain(&format!(r#"{{"method":"{method}","name":"dong","email":{email}}}"#)).await;
            assert_eq!(reply.status, 404);
        }
    }
}
