//! What an instance says is not believed either.

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

#[tokio::test]
async fn a_response_that_is_not_http_is_502_and_its_connection_is_not_used_again() {
    for nonsense in [
        "SMTP ready\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        let upstream = Upstream::start(move |request| match request.target.as_str() {
            "/nonsense" => Reply::raw(nonsense),
            _ => Reply::ok("sense"),
        })
        .await;
        let gateway = Gateway::before(&[upstream.address()], &[]);
        let mut client = gateway.connect().await;
        let answer = client.ask("POST /mail/nonsense HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(answer.code(), (502, "upstream_malformed".to_owned()), "{nonsense:?}");
        assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "sense", "{nonsense:?}");
        assert_eq!(upstream.connections_accepted(), 2, "{nonsense:?}");
    }
}

#[tokio::test]
async fn interim_responses_pass_but_for_our_own_part() {
    let reply = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = Upstream::start(move |_| Reply::raw(reply)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hints = client.head_only().await;
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    assert_eq!(client.answer().await.text(), "ok");
    let mut old = gateway.connect().await;
    assert_eq!(old.ask("GET /mail HTTP/1.0\r\n\r\n").await.text(), "ok", "HTTP/1.0 knows no interim responses");
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let upstream = Upstream::start(move |_| Reply::raw(&flood)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let last = loop {
        let answer = client.head_only().await;
        if answer.status != 103 {
            break answer;
        }
    };
    assert_eq!(last.status, 502, "an instance that never comes to the point");
}

#[tokio::test]
async fn bytes_after_a_response_never_become_the_next_one() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/first" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        }
        _ => Reply::ok("second"),
    })
    .await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("GET /mail/first HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "ok");
    assert_eq!(client.ask("GET /mail/second HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "second");
}

#[tokio::test]
async fn trailers_are_dropped_both_ways() {
    let reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n";
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n2\r\nhi\r\n0\r\nHost: evil\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    assert_eq!(conversation.read_request().await.unwrap().unwrap().body, b"hi", "a trailer would be a violation here");
    conversation.write(reply).await;
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.header("trailer")), ("ok", None));
}

#[tokio::test]
async fn an_answer_before_the_request_is_over_arrives() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhello").await;
    let mut conversation = upstream.accept().await;
    conversation.read_head().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
}
