//! Nobody is there: always 503, at once, with a reason that a person can use.

use discovery::Status;
use testkit::upstream::Upstream;

use crate::support::{Answer, Gateway};

fn reason(answer: &Answer, code: &str) -> String {
    let (found, detail) = answer.problem();
    assert_eq!((answer.status, found.as_str(), answer.header("retry-after")), (503, code, Some("2")), "{detail}");
    detail
}

#[tokio::test]
async fn a_service_that_never_was_is_503_and_never_404() {
    let gateway = Gateway::start();
    let answer = gateway.get("/mial/x").await;
    assert_eq!(reason(&answer, "no_instance"), "no instance of \"mial\" was ever registered");
}

#[tokio::test]
async fn unknown_is_told_from_down() {
    let mut gateway = Gateway::without_table(&[]);
    let detail = reason(&gateway.get("/mail").await, "discovery_unknown");
    assert!(detail.contains("etcd has not been reached"), "{detail}");
    gateway.publish();
    reason(&gateway.get("/mail").await, "no_instance");
}

#[tokio::test]
async fn an_instance_that_deregistered_is_gone_at_once_and_named() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    assert_eq!(gateway.get("/mail").await.status, 200);
    let address = upstream.address();
    gateway.register("service/mail/0", &format!("http://{address}?status=draining"));
    let detail = reason(&gateway.get("/mail").await, "no_instance");
    assert_eq!(detail, "mail is down: its only instance is draining");
    gateway.remove("service/mail/0");
    let detail = reason(&gateway.get("/mail").await, "no_instance");
    assert!(detail.starts_with("mail is down: last instance deregistered "), "{detail}");
    assert_eq!(upstream.requests().len(), 1, "nothing was sent to who had left");
}

#[tokio::test]
async fn an_operators_word_takes_instances_out_and_the_answer_names_it() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.instances.set_override("service/mail/0".parse().unwrap(), Some(Status::Draining.into()));
    gateway.publish();
    let detail = reason(&gateway.get("/mail").await, "no_instance");
    assert!(detail.contains("is draining by an operator's word"), "{detail}");
}

#[tokio::test]
async fn expired_but_answering_is_used_when_nobody_is_registered() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let mut gateway = Gateway::before(&[a.address(), b.address()], &[]);
    gateway.remove("service/mail/0");
    for _ in 0..4 {
        assert_eq!(gateway.get("/mail").await.text(), "b", "who is registered goes first");
    }
    gateway.remove("service/mail/1");
    let mut names = vec![gateway.get("/mail").await.text(), gateway.get("/mail").await.text()];
    names.sort();
    assert_eq!(names, ["a", "b"], "the death of every registry does not stop the traffic");
}

#[tokio::test]
async fn expired_and_refusing_is_down_with_its_last_heartbeat() {
    let mut upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    upstream.down().await;
    let detail = reason(&gateway.get("/mail").await, "instance_unreachable");
    assert!(detail.contains("its instance cannot be connected to"), "{detail}");
    gateway.remove("service/mail/0");
    let detail = reason(&gateway.get("/mail").await, "no_instance");
    assert!(detail.starts_with("mail is down: last instance lost its heartbeat "), "{detail}");
}

#[tokio::test]
async fn an_address_that_must_not_be_used_is_not_and_the_answer_says_why() {
    let mut gateway = Gateway::start();
    let own = gateway.address().to_string();
    for (address, why) in [("169.254.169.254:80", "link-local"), ("0.0.0.0:80", "no address"), (&own, "gateway itself")]
    {
        gateway.register("service/mail/0", address);
        let detail = reason(&gateway.get("/mail").await, "no_instance");
        assert!(detail.contains(why), "{detail}");
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_an_answer_of_the_gateways_own() {
    let mut gateway = Gateway::start();
    let mut client = gateway.connect().await;
    let refused = client.ask("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!((refused.status, refused.header("connection")), (503, None));
    let upstream = Upstream::named("mail").await;
    gateway.register("service/mail/0", &upstream.address().to_string());
    assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "mail");
}
