//! Nothing is carried out twice, unless its method or its service promises that it may be.

use std::{net::SocketAddr, time::Duration};

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

/// Resets the connection after it has received a request.
async fn killed() -> Upstream {
    Upstream::start(|_| Reply::Reset).await
}

async fn echo() -> Upstream {
    Upstream::start(|request| Reply::ok(&request.body)).await
}

fn request(method: &str, lines: &str) -> String {
    format!("{method} /mail/pay?now HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 5\r\n\r\nhello")
}

/// A gateway before one instance that dies of its first request and one that answers; each says this about itself.
fn between(a: SocketAddr, b: SocketAddr, says: [&str; 2]) -> Gateway {
    let mut gateway = Gateway::with(&[]);
    for (n, (address, says)) in [a, b].into_iter().zip(says).enumerate() {
        gateway.register(&format!("service/mail/{n}"), &format!("http://{address}{says}"));
    }
    gateway
}

/// The statuses of two requests, of which the first instance gets one; the lower first.
async fn statuses(gateway: &Gateway, request: &str) -> [u16; 2] {
    let mut statuses = [gateway.ask(request).await.status, gateway.ask(request).await.status];
    statuses.sort_unstable();
    statuses
}

const KEY: &str = "Idempotency-Key: k1\r\n";
const HONOURED: &str = "?meta.idempotency-key=honoured";

#[tokio::test]
async fn a_key_that_no_service_honours_does_not_make_a_post_repeatable() {
    for (says, policy) in [(["", ""], "{}"), ([HONOURED; 2], r#"{"retries":{"idempotency_key":"ignored"}}"#)] {
        let (a, b) = (killed().await, echo().await);
        let mut gateway = between(a.address(), b.address(), says);
        gateway.set_policy("mail", policy);
        assert_eq!(statuses(&gateway, &request("POST", KEY)).await, [200, 502]);
        assert_eq!((a.requests().len(), b.requests().len()), (1, 1), "each POST was sent once");
    }
}

#[tokio::test]
async fn a_keyed_post_is_repeated_at_a_service_that_honours_keys() {
    let announced = ([HONOURED, "?meta.idempotency-key=%2Fpay"], "{}");
    let by_policy = (["", ""], r#"{"retries":{"idempotency_key":"honoured"}}"#);
    for (says, policy) in [announced, by_policy] {
        let (a, b) = (killed().await, echo().await);
        let mut gateway = between(a.address(), b.address(), says);
        gateway.set_policy("mail", policy);
        for _ in 0..2 {
            assert_eq!(gateway.ask(&request("POST", KEY)).await.text(), "hello");
        }
        assert!(a.requests().len() == 2 && b.requests().len() == 2);
        assert!(b.requests().iter().all(|request| request.header("idempotency-key") == Some("k1")));
        assert_eq!(statuses(&gateway, &request("POST", "")).await, [200, 200], "the first is ejected by now");
    }
}

#[tokio::test]
async fn one_instance_that_does_not_promise_is_enough_to_repeat_nothing() {
    for says in [[HONOURED, ""], ["", HONOURED], [HONOURED, "?meta.idempotency-key=%2Fother"]] {
        let (a, b) = (killed().await, echo().await);
        let gateway = between(a.address(), b.address(), says);
        assert_eq!(statuses(&gateway, &request("POST", KEY)).await, [200, 502], "{says:?}");
    }
}

#[tokio::test]
async fn a_request_with_a_precondition_is_sent_once() {
    for method in ["PUT", "DELETE"] {
        for line in ["If-Match: \"1\"", "If-None-Match: *", "If-Unmodified-Since: Mon, 30 Nov 2026 07:00:00 GMT"] {
            let (a, b) = (killed().await, echo().await);
            let gateway = between(a.address(), b.address(), ["", ""]);
            let request = request(method, &format!("{line}\r\n"));
            assert_eq!(statuses(&gateway, &request).await, [200, 502], "{method} {line}");
            assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
        }
    }
}

#[tokio::test]
async fn put_and_delete_never_go_elsewhere_while_the_first_attempt_may_live() {
    let patience = r#"{"timeouts":{"per_try":"300ms","response":"1500ms"},"hedge":{"after":"200ms"}}"#;
    for method in ["PUT", "DELETE", "POST", "PATCH"] {
        let (a, b) = (Upstream::start(|_| Reply::Silence).await, echo().await);
        let mut gateway = Gateway::before(&[a.address(), b.address()], &["--stall-timeout=100ms"]);
        gateway.set_policy("mail", patience);
        let request = request(method, KEY);
        let both = tokio::join!(gateway.ask(&request), gateway.ask(&request));
        let mut statuses = [both.0.status, both.1.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 504], "{method}");
        assert_eq!((a.requests().len(), b.requests().len()), (1, 1), "{method}");
    }
}

#[tokio::test]
async fn what_is_safe_goes_elsewhere_when_the_policy_says_how_soon() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let (a, b) = (Upstream::start(|_| Reply::Silence).await, echo().await);
        let mut gateway = Gateway::before(&[a.address(), b.address()], &["--stall-timeout=0s"]);
        gateway.set_policy("mail", r#"{"hedge":{"after":"200ms"}}"#);
        let mut clients = [gateway.connect().await, gateway.connect().await];
        for client in &mut clients {
            client.send(&format!("{method} /mail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        }
        for client in &mut clients {
            let answer = tokio::time::timeout(Duration::from_secs(20), client.rest()).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{method}");
        }
        assert_eq!(b.requests().len(), 2, "{method}");
    }
}

#[tokio::test]
async fn what_was_answered_is_not_repeated_because_the_answer_broke_off() {
    let breaks_off = || Reply::ThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec());
    for method in ["PUT", "DELETE", "POST"] {
        let (a, b) = (Upstream::start(move |_| breaks_off()).await, Upstream::start(move |_| breaks_off()).await);
        let gateway = between(a.address(), b.address(), [HONOURED; 2]);
        for n in 1..=20 {
            let mut client = gateway.connect().await;
            client.send(request(method, KEY)).await;
            client.half_close().await;
            client.rest().await;
            assert_eq!(a.requests().len() + b.requests().len(), n, "{method}: the head said that it was carried out");
        }
    }
}
