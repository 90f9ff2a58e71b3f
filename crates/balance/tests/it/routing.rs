//! Whom a request goes to, and what of it arrives.

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

#[tokio::test]
async fn the_service_is_cut_off_and_the_rest_arrives_byte_by_byte() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    for (target, asked) in [
        ("/mail", "/"),
        ("/mail/", "/"),
        ("/mail?a=/b&c", "/?a=/b&c"),
        ("/mail/v1/a%2Fb%20c;d=e?x=%20&y=+", "/v1/a%2Fb%20c;d=e?x=%20&y=+"),
        ("/mail//x/../y/./z", "//x/../y/./z"),
        ("http://gateway/mail/absolute?x", "/absolute?x"),
    ] {
        let answer = client.ask(&format!("GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "mail"));
        assert_eq!(upstream.requests().last().unwrap().target, asked, "{target}");
    }
    assert_eq!(upstream.connections_accepted(), 1, "connections to instances are used again");
    assert!(upstream.violations().is_empty(), "{:?}", upstream.violations());
}

#[tokio::test]
async fn any_method_passes_with_its_body() {
    let upstream = Upstream::start(|request| Reply::ok(&request.body)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"] {
        let request = format!("{method} /mail/x HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.ask(&request).await.text(), "hello", "{method}");
        assert_eq!(upstream.requests().last().unwrap().method, method);
    }
    let chunked =
        "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert_eq!(client.ask(chunked).await.text(), "hello");
    let chunked_get = chunked.replace("POST", "GET");
    assert_eq!(client.ask(&chunked_get).await.text(), "hello", "a GET may have a body, too");
    assert!(upstream.violations().is_empty(), "{:?}", upstream.violations());
}

#[tokio::test]
async fn instances_take_turns() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::before(&[a.address(), b.address()], &[]);
    let mut client = gateway.connect().await;
    let mut names = Vec::new();
    for _ in 0..6 {
        names.push(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text());
    }
    names.sort();
    assert_eq!(names, ["a", "a", "a", "b", "b", "b"]);
}

#[tokio::test]
async fn a_change_of_the_table_takes_effect_with_the_next_request() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let mut gateway = Gateway::before(&[a.address()], &[]);
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "a");
    gateway.register("service/mail/0", &b.address().to_string());
    assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "b");
}

#[tokio::test]
async fn what_cannot_be_a_service_is_a_problem_that_says_so() {
    let gateway = Gateway::start();
    for target in ["/Mail/x", "/ma%69l", "//mail", "/a.b", "/-a", &format!("/{}", "x".repeat(64)), "/../mail"] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.code(), (400, "no_service_name".to_owned()), "{target}");
    }
    let answer = gateway.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn the_root_lists_the_services_without_addresses() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let listing = gateway.get("/?pretty").await;
    assert_eq!((listing.status, listing.header("content-type")), (200, Some("application/json")));
    let json: serde_json::Value = serde_json::from_slice(&listing.body).unwrap();
    assert_eq!(json["services"], serde_json::json!({ "mail": { "instances": 1 } }));
    assert!(!listing.text().contains("127.0.0.1"));
    let silent = Gateway::before(&[upstream.address()], &["--index=false"]);
    assert!(!silent.get("/").await.text().contains("mail"));
}
