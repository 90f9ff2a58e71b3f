//! What the gateway's own answers tell, and whom.

use testkit::upstream::Upstream;

use crate::support::{Answer, Gateway};

const ORIGIN: &str = "https://app.example";

async fn from_page(gateway: &Gateway, target: &str, origin: &str) -> Answer {
    gateway.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\r\n")).await
}

fn allowed(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("access-control-allow-origin"), answer.header("vary"))
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_reads_why_a_service_is_down() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.set_policy("mail", r#"{"cors":{"origins":["https://app.example"]},"limits":{"body_max_bytes":1}}"#);
    assert_eq!(allowed(&from_page(&gateway, "/mail", ORIGIN).await), (None, None), "an instance's answer is its own");
    let large = "POST /mail HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\nContent-Length: 2\r\n\r\nhi";
    let large = gateway.ask(large).await;
    assert_eq!((large.status, allowed(&large)), (413, (Some(ORIGIN), Some("Origin"))));
    gateway.register("service/mail/0", &format!("http://{}?status=draining", upstream.address()));
    let down = from_page(&gateway, "/mail", ORIGIN).await;
    assert_eq!((down.status, allowed(&down)), (503, (Some(ORIGIN), Some("Origin"))));
    assert_eq!(down.header("access-control-expose-headers"), Some("Retry-After, X-Request-Id"));
    for other in ["https://evil.example", "https://app.example.evil.example", "null", "HTTPS://APP.EXAMPLE"] {
        assert_eq!(allowed(&from_page(&gateway, "/mail", other).await), (None, Some("Origin")), "{other}");
    }
    assert_eq!(allowed(&gateway.get("/mail").await), (None, Some("Origin")));
    gateway.set_policy("mail", r#"{"cors":{"origins":["*"]}}"#);
    assert_eq!(allowed(&from_page(&gateway, "/mail", "https://any.example").await).0, Some("*"));
    gateway.set_policy("mail", "{}");
    assert_eq!(allowed(&from_page(&gateway, "/mail", ORIGIN).await), (None, None), "no origin, by default");
}

#[tokio::test]
async fn a_service_that_never_had_an_instance_has_its_policy_nevertheless() {
    let mut gateway = Gateway::start();
    gateway.set_policy("soon", r#"{"cors":{"origins":["https://app.example"]}}"#);
    let answer = from_page(&gateway, "/soon", ORIGIN).await;
    assert_eq!((answer.status, allowed(&answer)), (503, (Some(ORIGIN), Some("Origin"))));
    assert_eq!(allowed(&from_page(&gateway, "/other", ORIGIN).await), (None, None));
}

#[tokio::test]
async fn the_reason_is_for_everybody_and_the_addresses_for_whom_the_policy_names() {
    let mut upstream = Upstream::named("mail").await;
    let address = upstream.address().to_string();
    for (options, policy, is_told) in [
        (vec![], "{}", false),
        (vec![], r#"{"errors":{"details":"full"}}"#, true),
        (vec!["--error-details=full"], "{}", true),
        (vec!["--error-details=full"], r#"{"errors":{"details":"reason"}}"#, false),
    ] {
        let mut gateway = Gateway::before(&[upstream.address()], &options);
        gateway.set_policy("mail", policy);
        upstream.down().await;
        let check = async |gateway: &Gateway, reason: &str| {
            let (_, detail) = gateway.get("/mail").await.problem();
            assert!(detail.contains(reason), "{reason} in {detail}");
            assert_eq!(detail.contains(&address), is_told, "{options:?} {policy}: {detail}");
        };
        check(&gateway, "cannot be connected to").await;
        gateway.register("service/mail/0", &format!("http://{address}?status=draining"));
        check(&gateway, "is draining").await;
        gateway.remove("service/mail/0");
        check(&gateway, "deregistered").await;
        upstream.up();
    }
}
