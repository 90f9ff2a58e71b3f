//! Bodies pass as they come, both ways, and no faster than they are taken.

use std::time::Duration;

use testkit::{
    upstream::{Reply, Upstream},
    wait::SOON,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::Gateway;

#[tokio::test]
async fn a_response_that_never_ends_arrives_piece_by_piece() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail/events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation
        .write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head_only().await.status, 200, "the head does not wait for the body");
    for n in 0..5 {
        conversation.write(format!("7\r\ndata: {n}\r\n")).await;
        assert_eq!(client.chunk().await.unwrap(), format!("data: {n}").into_bytes());
    }
    conversation.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    client.send("GET /mail/again HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(conversation.read_request().await.unwrap().unwrap().target, "/again", "both connections go on");
}

#[tokio::test]
async fn many_small_chunks_that_come_at_once_arrive_as_they_were_sent() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail/rows HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    // More than all buffers of the gateway, of which each is full when it is read.
    let rows: String = (0..10_000).map(|n| format!("row {n:06}\n")).collect();
    let chunks: String = rows.split_inclusive('\n').map(|row| format!("{:x}\r\n{row}\r\n", row.len())).collect();
    let sending = conversation.write(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"));
    let reading = async {
        assert_eq!(client.head_only().await.status, 200);
        let mut arrived = Vec::new();
        while let Some(chunk) = client.chunk().await {
            arrived.extend(chunk);
        }
        arrived
    };
    let ((), arrived) = tokio::join!(sending, reading);
    assert!(arrived == rows.into_bytes(), "{} bytes", arrived.len());
}

#[tokio::test]
async fn a_request_that_never_ends_arrives_piece_by_piece() {
    for (framing, wrap) in [("Content-Length: 1000", false), ("Transfer-Encoding: chunked", true)] {
        let mut upstream = Upstream::listen().await;
        let gateway = Gateway::before(&[upstream.address()], &[]);
        let mut client = gateway.connect().await;
        client.send(format!("POST /mail HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await;
        let mut conversation = upstream.accept().await;
        let head = conversation.read_head().await.unwrap().unwrap();
        assert!(head.head.to_ascii_lowercase().contains(&framing.to_ascii_lowercase()), "{}", head.head);
        for n in 0..5 {
            let piece = if wrap { format!("7\r\npiece {n}\r\n") } else { format!("piece {n}") };
            client.send(&piece).await;
            let mut arrived = Vec::new();
            while arrived.len() < piece.len() {
                arrived.extend(conversation.read_some().await);
            }
            assert_eq!(arrived, piece.into_bytes(), "nothing waits for the whole");
        }
    }
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_head().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(client.head_only().await.status, 200);
    for n in 0..5 {
        client.send(format!("1\r\n{n}\r\n")).await;
        assert_eq!(conversation.read_some().await, format!("1\r\n{n}\r\n").into_bytes());
        conversation.write(format!("1\r\n{n}\r\n")).await;
        assert_eq!(client.chunk().await.unwrap(), n.to_string().into_bytes());
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_stops_the_instance() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
    let piece = vec![0; 1 << 20];
    let mut written = 0;
    // What the kernels buffer on the way is a few megabytes; a gateway that buffers takes the whole gigabyte.
    while written < 1024 && timeout(Duration::from_secs(1), conversation.write(&piece)).await.is_ok() {
        written += 1;
    }
    assert!(written < 64, "{written} MiB were taken from the instance though nobody read them");
    assert_eq!(client.head_only().await.status, 200);
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways() {
    let upstream = Upstream::start(|request| Reply::ok(&request.body)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let body: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = gateway.connect().await;
    client.send(format!("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    client.send(&body).await;
    assert!(client.answer().await.body == body);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let upstream = Upstream::start(|request| Reply::ok(&request.body)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.head_only().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "hello");
    assert_eq!(upstream.requests()[0].header("expect"), None, "the expectation was met here");
    let mut client = gateway.connect().await;
    client.send("POST /nobody HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "nobody asks for a useless body");
}

#[tokio::test]
async fn responses_without_a_body_have_none_and_the_connection_goes_on() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/head" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1000\r\n\r\n"),
        _ => Reply::ok("end"),
    })
    .await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    let head = client.ask("HEAD /mail/head HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
    assert_eq!(client.ask("GET /mail/204 HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 204);
    let not_modified = client.ask("GET /mail/304 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((not_modified.status, not_modified.header("etag")), (304, Some("\"a\"")));
    assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "end");
    assert_eq!(upstream.connections_accepted(), 1);
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_arrives_whole() {
    let upstream = Upstream::start(|_| Reply::ThenClose(b"HTTP/1.1 200 OK\r\n\r\nall of it".to_vec())).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "all of it");
    }
    assert_eq!(upstream.connections_accepted(), 2);
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    let answer = client.ask("GET /mail HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "mail"));
    assert!(client.is_closed().await);
    let expected = upstream.address().to_string();
    assert_eq!(upstream.requests()[0].header("host"), Some(expected.as_str()), "HTTP/1.1 never leaves without Host");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    let requests: String = (0..10).map(|n| format!("GET /mail/{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests).await;
    for n in 0..10 {
        assert_eq!(client.answer().await.text(), format!("/{n}"));
    }
    assert!(timeout(SOON, async { upstream.connections_accepted() }).await.unwrap() == 1);
}

/// What an HTTP/1.0 client has read of a response that begins with `he`, and how its connection ended.
async fn read_by_an_old_client(rest: Option<&str>) -> (Vec<u8>, std::io::Result<usize>) {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    client.write_all(b"GET /mail HTTP/1.0\r\n\r\n").await.unwrap();
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n").await;
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nhe") {
        assert!(timeout(SOON, client.read_buf(&mut read)).await.unwrap().unwrap() > 0, "{read:?}");
    }
    if let Some(rest) = rest {
        conversation.write(rest).await;
    }
    drop(conversation);
    let end = loop {
        match timeout(SOON, client.read_buf(&mut read)).await.unwrap() {
            Ok(1..) => {}
            end => break end,
        }
    };
    (read, end)
}

#[tokio::test]
async fn an_old_client_is_reset_when_its_response_breaks_off_and_not_told_that_it_is_whole() {
    let (_read, end) = read_by_an_old_client(None).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (read, end) = read_by_an_old_client(Some("3\r\nllo\r\n0\r\n\r\n")).await;
    assert!(read.ends_with(b"\r\n\r\nhello") && end.unwrap() == 0);
}
