//! Which header fields arrive, in both directions.

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

#[tokio::test]
async fn fields_about_the_connection_end_here_both_ways() {
    let upstream = Upstream::start(|_| {
        let fields = [
            ("Connection", "X-Internal, keep-alive"),
            ("X-Internal", "secret"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "h2c"),
            ("Proxy-Connection", "keep-alive"),
            ("Trailer", "X-T"),
            ("X-Kept", "yes"),
        ];
        Reply::status(200, &fields, "ok")
    })
    .await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let answer = gateway
        .ask(
            "GET /mail HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret, Upgrade\r\nX-Secret: 1\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAA\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\
             Proxy-Authorization: Basic x\r\nX-Kept: yes\r\n\r\n",
        )
        .await;
    let request = &upstream.requests()[0];
    for gone in [
        "connection",
        "x-secret",
        "upgrade",
        "http2-settings",
        "te",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
    ] {
        assert!(request.all(gone).is_empty(), "{gone} in {}", request.head);
    }
    assert_eq!(request.header("x-kept"), Some("yes"));
    for gone in ["connection", "x-internal", "keep-alive", "upgrade", "proxy-connection", "trailer"] {
        assert_eq!(answer.header(gone), None, "{}", answer.head);
    }
    assert_eq!((answer.header("x-kept"), answer.text().as_str()), (Some("yes"), "ok"));
}

#[tokio::test]
async fn where_a_request_comes_from_is_told_by_us_and_nobody_else() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let spoofed = "GET /mail HTTP/1.1\r\nHost: shop.example:8080\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\n\
                   X-Forwarded-Proto: https\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n";
    gateway.ask(spoofed).await;
    let request = &upstream.requests()[0];
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example:8080"),
        ("x-forwarded-prefix", "/mail"),
        ("host", "shop.example:8080"),
        ("via", "1.1 balance"),
    ] {
        assert_eq!(request.header(name), Some(value), "{}", request.head);
    }
    assert!(!request.head.contains("1.2.3.4") && !request.head.contains("evil"), "{}", request.head);
    let trusting = Gateway::before(&[upstream.address()], &["--trust-forwarded-from=10.0.0.0/8,127.0.0.0/8"]);
    trusting.ask(spoofed).await;
    let request = &upstream.requests()[1];
    assert_eq!(request.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn the_target_of_an_absolute_request_goes_before_its_host() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.ask("GET http://real.example/mail HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    let request = &upstream.requests()[0];
    assert_eq!(
        (request.header("host"), request.header("x-forwarded-host")),
        (Some("real.example"), Some("real.example"))
    );
    assert_eq!(gateway.ask("GET http://u@real/mail HTTP/1.1\r\nHost: real\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn one_request_id_is_in_through_and_out() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let given = gateway.ask("GET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc-1\r\n\r\n").await;
    assert_eq!(given.header("x-request-id"), Some("abc-1"));
    assert_eq!(upstream.requests()[0].header("x-request-id"), Some("abc-1"));
    let made = gateway.get("/mail").await;
    let id = made.header("x-request-id").unwrap();
    assert_eq!((id.len(), upstream.requests()[1].header("x-request-id")), (32, Some(id)));
    let refused = gateway.ask("GET /nobody HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc-2\r\n\r\n").await;
    assert_eq!(refused.header("x-request-id"), Some("abc-2"));
    refused.problem();
}

#[tokio::test]
async fn no_client_can_take_away_what_is_meant_for_the_instance() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for name in ["x-request-id", "Idempotency-Key", "X-Forwarded-For", "Cookie", "Host", "Content-Length"] {
        let head = format!("GET /mail HTTP/1.1\r\nHost: a\r\nConnection: close, {name}\r\n\r\n");
        assert_eq!(gateway.ask(&head).await.code(), (400, "malformed_request".to_owned()), "{name}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_trace_passes_unchanged() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    gateway.ask(&format!("GET /mail HTTP/1.1\r\nHost: a\r\nTraceparent: {trace}\r\nTracestate: a=b\r\n\r\n")).await;
    let request = &upstream.requests()[0];
    assert_eq!((request.header("traceparent"), request.header("tracestate")), (Some(trace), Some("a=b")));
}

#[tokio::test]
async fn a_request_that_goes_round_in_circles_is_stopped() {
    let gateway = Gateway::start();
    let via = ["1.1 balance"; 11].join(", ");
    let answer = gateway.ask(&format!("GET /mail HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n")).await;
    assert_eq!(answer.code(), (508, "loop_detected".to_owned()));
}
