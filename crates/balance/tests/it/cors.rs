//! Pages of other sites, where the policy speaks for the service.

use testkit::upstream::{Reply, Upstream};

use crate::support::{Answer, Gateway};

const POLICY: &str = r#"{"cors":{"origins":["https://app.example"],"applies_to":"service","methods":["PUT"],"headers":["x-api-key"],
    "expose":["x-total"],"credentials":true,"max_age":"1h"},"auth":{"keys":{"header":"x-api-key"},"public_paths":["/open"]}}"#;

async fn preflight(gateway: &Gateway, path: &str, origin: &str) -> Answer {
    let head = format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n\
         Access-Control-Request-Headers: x-api-key\r\n\r\n"
    );
    gateway.ask(&head).await
}

#[tokio::test]
async fn a_preflight_is_answered_without_the_service_and_without_a_credential() {
    let mut gateway = Gateway::start();
    gateway.set_policy("mail", POLICY);
    let allowed = preflight(&gateway, "/mail/x", "https://app.example").await;
    assert_eq!((allowed.status, allowed.header("content-length")), (204, None));
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT"),
        ("access-control-allow-headers", "x-api-key"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(allowed.header(name), Some(value), "{}", allowed.head);
    }
    assert!(allowed.header("vary").unwrap().starts_with("Origin"));
    let refused = preflight(&gateway, "/mail/x", "https://evil.example").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (204, None));
    assert_eq!(preflight(&gateway, "/other", "https://app.example").await.status, 503, "no policy speaks for it");
}

#[tokio::test]
async fn what_an_instance_says_is_replaced_and_a_refusal_can_be_read() {
    let fields =
        [("Access-Control-Allow-Origin", "*"), ("access-control-allow-private-network", "true"), ("Vary", "Accept")];
    let mail = Upstream::start(move |_| Reply::status(200, &fields, "mail")).await;
    let mut gateway = Gateway::before(&[mail.address()], &[]);
    let ask = "GET /mail/open HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\r\n";
    assert_eq!(gateway.ask(ask).await.header("access-control-allow-origin"), Some("*"), "without a policy it passes");
    gateway.set_policy("mail", POLICY);
    let answer = gateway.ask(ask).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("Retry-After, X-Request-Id, x-total"));
    assert_eq!(answer.header("access-control-allow-private-network"), None);
    assert!(answer.head.contains("Vary: Accept\r\n") && answer.head.contains("Vary: Origin\r\n"), "{}", answer.head);
    let evil = gateway.ask(&ask.replace("app", "evil")).await;
    assert_eq!((evil.status, evil.header("access-control-allow-origin")), (200, None));
    let refused = gateway.ask(&ask.replace("/open", "/x")).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://app.example")));
    let options = gateway.ask("OPTIONS /mail/open HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((options.status, options.text().as_str()), (200, "mail"), "no preflight: the service's own");
}
