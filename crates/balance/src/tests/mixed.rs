//! One framing in front and the other behind.

use discovery::policy::Policy;
use testkit::upstream::{Reply, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{
    frames::Frame,
    harness::{ADDRESSES, Harness, run},
};

/// Reads until that has come.
async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let count = client.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

#[test]
fn a_client_of_http_1_reaches_an_instance_that_speaks_frames_and_keeps_its_connection() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        harness.instance(0, async |stream| {
            let request = stream.message().await.unwrap();
            stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
            stream.send_body(&request.body).await;
        });
        let mut client = harness.http1_client();
        for _ in 0..3 {
            let head = "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.write_all(format!("{head}3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n").as_bytes()).await.unwrap();
            let answer = read_until(&mut client, "0\r\n\r\n").await;
            assert!(answer.contains("Transfer-Encoding: chunked\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n6\r\nonetwo\r\n0\r\n\r\n"), "{answer}");
        }
        assert_eq!(harness.network.connections(ADDRESSES[0]), 1);
    });
}

#[test]
fn a_stream_that_breaks_off_never_looks_whole_to_a_client_of_http_1() {
    run(async {
        let harness = Harness::new(1, Policy::default());
        harness.instance(0, async |stream| {
            stream.message().await;
            stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
            stream.send(Frame::Data(b"half".to_vec()));
            while stream.has_unread() {
                tokio::task::yield_now().await;
            }
            stream.send(Frame::Reset);
        });
        let mut client = harness.http1_client();
        client.write_all(b"GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("4\r\nhalf\r\n"), "{answer}");
    });
}

#[test]
fn a_client_that_speaks_frames_reaches_an_instance_of_http_1() {
    run(async {
        let instance = Upstream::start(|request| match request.target.as_str() {
            "/" => Reply::ok(&request.body),
            _ => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"),
        });
        let instance = instance.await;
        let harness = Harness::before(&instance.address().to_string());
        for lines in ["Transfer-Encoding: chunked\r\n", "Content-Length: 4\r\n"] {
            let stream = harness.begin("POST", lines);
            stream.send_body(b"body").await;
            let answer = stream.message().await.unwrap();
            assert_eq!((answer.status(), answer.text()), (200, "body"));
        }
        let stream = harness.client.open().unwrap();
        stream.send(Frame::Head(b"GET /mail/chunks HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()));
        stream.send(Frame::End);
        let answer = stream.message().await.unwrap();
        assert_eq!(answer.text(), "onetwo");
        assert!(!answer.head.contains("Transfer-Encoding"), "{}", answer.head);
        assert_eq!((instance.connections_accepted(), instance.violations()), (1, Vec::new()));
    });
}
