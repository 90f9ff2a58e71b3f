//! Hundreds of hostile requests, byte for byte as no well-meaning client sends them, at a registry with a real etcd:
//! afterwards etcd holds nothing outside `service/` and `override/`, and the registry is well.

use discovery::InstanceKey;
use testkit::etcd::EtcdCluster;

use crate::support::{Registry, exchange, keys};

const NAMES: [&str; 34] = [
    "..",
    "../config/mail",
    "../../override/mail/a",
    "service/../config/x",
    "service/service/x",
    "/etc/passwd",
    "//",
    "",
    " ",
    "config",
    "override/mail",
    "a/b/c",
    "a\\b",
    "%2e%2e",
    "%2e%2e%2fconfig%2fmail",
    "..%2f..%2fx",
    "%2F",
    "%5c",
    "%00",
    "a%00b",
    "%c0%af..%c0%af",
    "%ff%fe",
    "%u002e",
    "a%0aPUT%20config/x",
    "a;b",
    "a?b",
    "a#b",
    "*",
    "\u{202e}liam",
    "m\u{0430}il",
    "${jndi:ldap://x}",
    "'; DROP TABLE x",
    "-",
    "service/mail\u{0}",
];

#[tokio::test]
async fn no_hostile_input_writes_outside_the_prefixes() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let authority = registry.url.strip_prefix("http://").unwrap();
    let mut sent = 0;
    for request in requests() {
        let answer = exchange(authority, &request).await;
        let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
        assert!(status.is_none_or(|status| status < 500), "{status:?} for {}", String::from_utf8_lossy(&request));
        sent += 1;
    }
    assert!(sent > 300, "{sent}");
    let written = keys(&etcd);
    for key in &written {
        let parsed = InstanceKey::parse(key.as_bytes()).or_else(|_| InstanceKey::parse_override(key.as_bytes()));
        assert!(parsed.is_ok_and(|key| key.instance.is_some()), "{key:?} must not have been written");
    }
    // Some of it was harmless; had nothing got through, this test would prove nothing.
    assert!(written.iter().any(|key| key == "service/mail/10.0.0.5:1"), "{written:?}");
    registry.beat("mail/after", r#"{"address":"10.0.0.5:7070"}"#).await;
}

fn requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut request = |method: &str, path: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        requests.push([head.as_bytes(), body.as_bytes()].concat());
    };
    let address = r#"{"address":"10.0.0.5:7070"}"#;
    request("POST", "/", r#"{"name":"mail","host":"10.0.0.5","port":1}"#);
    for name in NAMES {
        let text = serde_json::Value::from(name);
        request("POST", "/", &format!(r#"{{"name":{text},"host":"10.0.0.5","port":7070}}"#));
        request("POST", "/", &format!(r#"{{"name":"mail","host":{text},"port":7070}}"#));
        request("POST", "/", &format!(r#"{{"name":"mail","host":"10.0.0.5","port":{text}}}"#));
        request("POST", &format!("/{name}"), r#"{"name":"mail","host":"10.0.0.5","port":1}"#);
        request("PUT", &format!("/v1/services/{name}/instances/a"), address);
        request("PUT", &format!("/v1/services/mail/instances/{name}"), address);
        request("PUT", &format!("/v1/services/{name}/instances/{name}/override"), r#"{"status":"draining"}"#);
        request("DELETE", &format!("/v1/services/mail/instances/{name}"), "");
        request("PUT", "/v1/services/mail/instances/a", &format!(r#"{{"address":{text}}}"#));
        request("PUT", "/v1/services/mail/instances/a", &format!(r#"{{"address":"a:1","meta":{{{text}:{text}}}}}"#));
        request("PUT", "/v1/services/mail/instances/a", &format!(r#"{{"address":"a:1","zone":{text},"key":{text}}}"#));
    }
    requests
}
