//! API tokens.

use reqwest::Method;
use service_kit::tokens::{NewToken, Scope};

use crate::{process::Userlist, service::Reply};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_do_what_its_scopes_say_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str, scope: &str| NewToken::random(name, &[scope.parse::<Scope>().unwrap()], false).unwrap();
    let (reader, writer, operator) =
        (token("reader", "userlist:read"), token("writer", "userlist:write"), token("ops", "userlist:*"));
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("{}\n{}\n{}\n", reader.line, writer.line, operator.line)).unwrap();
    let userlist = Userlist::start_with(
        folder.path(),
        &[("REGISTRY_URLS", "http://127.0.0.1:1"), ("USERLIST_TOKENS_FILE", file.to_str().unwrap())],
    );
    let client = &userlist.client;
    client.wait_until_ready().await;
    let send = async |token: &str, method: Method, path: &str, body: &str| -> Reply {
        client.send_with(method, path, &[("authorization", &format!("Bearer {token}"))], body.to_owned()).await
    };

    for (method, path) in [
        (Method::GET, "/v1/users"),
        (Method::PUT, "/v1/users/a"),
        (Method::POST, "/"),
        (Method::POST, "/v1/import"),
        (Method::POST, "/v1/users/import"),
    ] {
        let reply = client.send(method, path, "{}").await;
        assert_eq!((reply.status, reply.code()), (401, "token_missing"), "{path}");
        assert!(reply.header("www-authenticate").is_some());
    }
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(client.get(path).await.status, 200, "{path} is open");
    }
    let put = r#"{"method":"put","name":"a","email":"a@b.c"}"#;
    let get = r#"{"method":"get","name":"a"}"#;
    for (method, path, body, may_read, may_write, may_operate) in [
        (Method::POST, "/", put, 403, 200, 200),
        (Method::POST, "/", get, 200, 403, 200),
        (Method::GET, "/v1/users", "", 200, 403, 200),
        (Method::GET, "/v1/export", "", 200, 403, 200),
        (Method::GET, "/v1/users/a", "", 200, 403, 200),
        (Method::PATCH, "/v1/users/a", "{}", 403, 200, 200),
        (Method::PUT, "/v1/users/a", r#"{"email":"a@b.c"}"#, 403, 200, 200),
        (Method::POST, "/v1/import?format=csv", "name,email\n", 403, 403, 200),
        (Method::POST, "/v1/users/import?format=csv", "name,email\n", 403, 403, 200),
        (Method::POST, "/v1/users/%69mport?format=csv", "name,email\n", 403, 405, 405),
        (Method::PATCH, "/v1/users?tag=a", r#"{"add_tags":["b"]}"#, 403, 403, 200),
        (Method::DELETE, "/v1/users?tag=a&dry_run=true", "", 403, 403, 200),
        (Method::DELETE, "/v1/users/a", "", 403, 204, 404),
    ] {
        for (token, status) in [(&reader, may_read), (&writer, may_write), (&operator, may_operate)] {
            let reply = send(&token.secret, method.clone(), path, body).await;
            assert_eq!(reply.status, status, "{method} {path}: {:?}", reply.body);
        }
    }
    assert_eq!(send("nonsense", Method::GET, "/v1/users", "").await.code(), "token_unknown");
}
