//! Bad input gets a problem that names the field, before etcd is asked anything: there is none here.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Registry};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, field: &str, what: &str) {
    assert_eq!(answer.status.as_u16(), status, "{what}: {:?}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(answer.field(), field, "{what}: {:?}", answer.body);
    assert_eq!(answer.body["status"], status);
    assert!(answer.body["request_id"].is_string());
    assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.len() > field.len() + 10), "{:?}", answer.body);
}

#[tokio::test]
async fn a_plain_heartbeat_that_makes_no_sense_names_its_field() {
    let registry = Registry::without_etcd().await;
    let base = json!({ "name": "mail", "host": "10.0.0.5", "port": 7070 });
    let cases = [
        ("name", json!("")),
        ("name", json!("service/")),
        ("name", json!("service/service/mail")),
        ("name", json!("../mail")),
        ("name", json!("service/../config/mail")),
        ("name", json!("mail/x")),
        ("name", json!("Mail")),
        ("name", json!("ma il")),
        ("name", json!("mail\u{0}")),
        ("name", json!("mäil")),
        ("name", json!("x".repeat(64))),
        ("name", json!(1)),
        ("name", json!(null)),
        ("host", json!("")),
        ("host", json!("10.0.0.5/../x")),
        ("host", json!("10.0.0.5:80")),
        ("host", json!("0x7f000001")),
        ("host", json!("0.0.0.0")),
        ("host", json!("a b")),
        ("host", json!("a\r\nX: y")),
        ("host", json!("x".repeat(300))),
        ("host", json!(["10.0.0.5"])),
        ("port", json!(0)),
        ("port", json!(65536)),
        ("port", json!(-1)),
        ("port", json!(70.5)),
        ("port", json!("7070")),
        ("color", json!("blue")),
    ];
    for (field, value) in cases {
        let mut body = base.clone();
        body[field] = value;
        let answer = registry.ask(Method::POST, "/", body.to_string()).await;
        assert_problem(&answer, 422, field, &body.to_string());
    }
    for field in ["name", "host", "port"] {
        let mut body = base.clone();
        body.as_object_mut().unwrap().remove(field);
        assert_problem(&registry.ask(Method::POST, "/", body.to_string()).await, 422, field, "a missing field");
    }
}

#[tokio::test]
async fn a_full_heartbeat_that_makes_no_sense_names_its_field() {
    let registry = Registry::without_etcd().await;
    let cases = [
        ("address", json!("")),
        ("address", json!("10.0.0.5")),
        ("address", json!("10.0.0.5:0")),
        ("address", json!("10.0.0.5:70000")),
        ("address", json!("::1:7070")),
        ("address", json!("http://10.0.0.5:7070")),
        ("address", json!("user@10.0.0.5:7070")),
        ("address", json!("0.0.0.0:7070")),
        ("address", json!(7070)),
        ("scheme", json!("ftp")),
        ("weight", json!(0)),
        ("weight", json!(1001)),
        ("weight", json!("2")),
        ("zone", json!("")),
        ("zone", json!("a\nb")),
        ("version", json!("x".repeat(65))),
        ("health", json!("healthz")),
        ("health", json!("//evil/")),
        ("status", json!("up")),
        ("tags", json!("eu")),
        ("tags", json!([""])),
        ("meta", json!({ "a b": "" })),
        ("meta.owner", json!({ "owner": "x\u{0}" })),
        ("ttl_ms", json!(1999)),
        ("ttl_ms", json!(3_600_001)),
        ("ttl_ms", json!("5s")),
        ("weigth", json!(2)),
    ];
    for (field, value) in cases {
        let mut body = json!({ "address": "10.0.0.5:7070" });
        body[field.split('.').next().unwrap()] = value;
        let answer = registry.heartbeat("mail/a", &body.to_string()).await;
        assert_problem(&answer, 422, field, &body.to_string());
    }
    assert_problem(&registry.heartbeat("mail/a", "{}").await, 422, "address", "no address");
}

#[tokio::test]
async fn a_name_in_the_path_that_is_none_is_refused_by_its_part() {
    let registry = Registry::without_etcd().await;
    for (service, instance, status, field) in [
        ("Mail", "a", 422, "service"),
        ("ma%20il", "a", 422, "service"),
        ("%2e%2e", "a", 422, "service"),
        ("..%2fconfig", "a", 422, "service"),
        ("mail%2Fa", "a", 422, "service"),
        ("mail%00", "a", 422, "service"),
        ("%ff", "a", 400, "service"),
        ("-mail", "a", 422, "service"),
        ("", "a", 422, "service"),
        ("mail", "", 422, "instance"),
        ("mail", "%2e%2e", 422, "instance"),
        ("mail", "a%2fb", 422, "instance"),
        ("mail", "..%2f..%2fconfig%2fmail", 422, "instance"),
        ("mail", "a%0d%0ab", 422, "instance"),
        ("mail", "%ff", 400, "instance"),
        ("mail", "a%25b", 422, "instance"),
        ("mail", "[::1]:7070", 422, "instance"),
    ] {
        for (method, tail) in
            [(Method::PUT, ""), (Method::DELETE, ""), (Method::PUT, "/override"), (Method::DELETE, "/override")]
        {
            let path = format!("/v1/services/{service}/instances/{instance}{tail}");
            let body = if tail.is_empty() { ADDRESS } else { r#"{"status":"draining"}"# };
            assert_problem(&registry.ask_unchanged(&method, &path, body).await, status, field, &path);
        }
    }
    let long = "x".repeat(129);
    assert_problem(&registry.heartbeat(&format!("mail/{long}"), ADDRESS).await, 422, "instance", "129 bytes");
    assert_problem(&registry.get("/v1/services/a%2fb/instances").await, 422, "service", "a list");
}

#[tokio::test]
async fn what_is_not_json_is_400_and_what_is_too_large_is_413() {
    let registry = Registry::without_etcd().await;
    for body in ["", " ", "{", "mail", "{,}", "\u{feff}{}", "{\"\u{1}\":1}"] {
        for (method, path) in [(Method::POST, "/"), (Method::PUT, "/v1/services/mail/instances/a")] {
            let answer = registry.ask(method, path, body.to_owned()).await;
            assert_problem(&answer, 400, "", &body[..body.len().min(20)]);
            assert_eq!(answer.code(), "malformed_json");
        }
    }
    let answer = registry.ask(Method::POST, "/", vec![0xff_u8, 0xfe]).await;
    assert_problem(&answer, 400, "", "not UTF-8");
    for body in ["[]", " [\"mail\",\"10.0.0.5\",7070]", &"[".repeat(60_000)] {
        assert_problem(&registry.ask(Method::POST, "/", body.to_owned()).await, 422, "body", "a list");
    }
    let deep = format!(r#"{{"name":{}"#, r#"{"a":"#.repeat(10_000));
    assert_problem(&registry.ask(Method::POST, "/", deep).await, 422, "name", "a deep one");
    let large = format!(r#"{{"address":"10.0.0.5:7070","zone":"{}"}}"#, "x".repeat(64 * 1024));
    let answer = registry.heartbeat("mail/a", &large).await;
    assert_problem(&answer, 413, "", "64 KiB");
    assert_eq!(answer.code(), "body_too_large");
}

#[tokio::test]
async fn a_path_or_method_that_nobody_serves_is_a_problem_too() {
    let registry = Registry::without_etcd().await;
    for (method, path, status, code) in [
        (Method::GET, "/", 405, "method_not_allowed"),
        (Method::POST, "/v1/services/mail/instances/a", 405, "method_not_allowed"),
        (Method::PUT, "/v1/services/mail", 404, "no_such_path"),
        (Method::PUT, "/v1/services/mail/instances/a/b", 404, "no_such_path"),
        (Method::PUT, "/service/mail/a", 404, "no_such_path"),
    ] {
        let answer = registry.ask(method, path, ADDRESS).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path}");
    }
}
