//! An instance that takes requests and answers nobody, as a stopped process does: its kernel still accepts.

use std::time::{Duration, Instant};

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Gateway;

const GET: &str = "GET /mail HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

/// Whether it is a request of a user, and not the question whether the instance is awake.
fn is_users(request: &testkit::upstream::Received) -> bool {
    request.method != "OPTIONS"
}

fn users(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| is_users(request)).count()
}

/// Answers users after `delay`, one after the other or all at once, and is awake.
async fn slow(delay: Duration) -> Upstream {
    Upstream::start(move |request| if is_users(request) { Reply::after(delay, "slow") } else { Reply::ok("") }).await
}

#[tokio::test]
async fn a_stalled_instance_costs_no_get_and_is_left_alone() {
    let (a, b) = (Upstream::start(|_| Reply::Silence).await, Upstream::named("b").await);
    let gateway = Gateway::watching(&[a.address(), b.address()], &["--stall-timeout=200ms"]);
    for _ in 0..20 {
        assert_eq!(gateway.ask(GET).await.text(), "b");
    }
    assert!((1..=4).contains(&users(&a)), "{} requests went to the stalled one", users(&a));
    wait_until("the end of what waited there", SOON, || async { a.connections_open() == 0 }).await;
}

/// What waits there when it is found dead is sent elsewhere at once: there is not much time left.
#[tokio::test]
async fn a_short_response_timeout_leaves_time_for_another_instance() {
    let (a, b) = (Upstream::start(|_| Reply::Silence).await, Upstream::named("b").await);
    let gateway = Gateway::watching(&[a.address(), b.address()], &["--response-timeout=1s"]);
    let answers = futures::future::join_all((0..40).map(|_| gateway.ask(GET))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert!(users(&a) > 0, "some waited at the stalled one");
}

#[tokio::test]
async fn a_post_is_never_sent_twice_however_long_it_waits() {
    let (a, b) = (Upstream::start(|_| Reply::Silence).await, Upstream::named("b").await);
    let options = ["--stall-timeout=100ms", "--response-timeout=1500ms"];
    let gateway = Gateway::watching(&[a.address(), b.address()], &options);
    let (one, other) = tokio::join!(gateway.ask(POST), gateway.ask(POST));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
    assert_eq!((users(&a), users(&b)), (1, 1));
}

#[tokio::test]
async fn a_slow_instance_is_asked_once_whatever_the_method() {
    let (a, b) = (slow(Duration::from_millis(1500)).await, slow(Duration::from_millis(1500)).await);
    let gateway = Gateway::watching(&[a.address(), b.address()], &["--stall-timeout=100ms"]);
    let methods = ["GET", "PUT", "DELETE", "POST", "PATCH"];
    let requests = methods.map(|method| {
        format!("{method} /mail HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\nhi")
    });
    let answers = futures::future::join_all(requests.iter().map(|request| gateway.ask(request))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(users(&a) + users(&b), methods.len());
}

#[tokio::test]
async fn a_stalled_instance_that_answers_after_all_is_not_given_up() {
    let mut slow = Upstream::listen().await;
    let other = Upstream::start(|_| Reply::Silence).await;
    let mut gateway = Gateway::before(&[slow.address(), other.address()], &[]);
    gateway.set_policy("mail", r#"{"hedge":{"after":"100ms"}}"#);
    let mut client = gateway.connect().await;
    client.send(GET).await;
    let mut conversation = slow.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    wait_until("the second attempt", SOON, || async { other.requests().len() == 1 }).await;
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").await;
    assert_eq!(client.answer().await.text(), "slow");
    wait_until("the end of the second attempt", SOON, || async { other.connections_open() == 0 }).await;
}

#[tokio::test]
async fn the_only_instance_is_waited_for() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &["--stall-timeout=100ms"]);
    let mut client = gateway.connect().await;
    client.send(GET).await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
    assert_eq!(client.answer().await.text(), "late");
}

#[tokio::test]
async fn the_deadline_is_that_of_the_request_and_not_of_each_attempt() {
    let silent = [Upstream::start(|_| Reply::Silence).await, Upstream::start(|_| Reply::Silence).await];
    let addresses: Vec<_> = silent.iter().map(Upstream::address).collect();
    let gateway = Gateway::watching(&addresses, &["--stall-timeout=300ms", "--response-timeout=1500ms"]);
    let started = Instant::now();
    assert_eq!(gateway.ask(GET).await.code(), (504, "upstream_timeout".to_owned()));
    assert!(started.elapsed() >= Duration::from_millis(1500) && started.elapsed() < Duration::from_secs(10));
    assert!(silent.iter().all(|upstream| users(upstream) == 1));
}

#[tokio::test]
async fn bytes_of_a_body_or_a_tunnel_are_signs_of_life() {
    let upgrade = GET.replace("Host: a", "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket");
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let download = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    for (request, begins) in [(GET, download), (&upgrade, switching)] {
        let (mut busy, other) = (Upstream::listen().await, Upstream::named("other").await);
        let mut gateway = Gateway::watching(&[busy.address(), other.address()], &["--stall-timeout=200ms"]);
        gateway.set_policy("mail", r#"{"health":{"active":{"interval":"1h"}}}"#);
        let mut streaming = gateway.connect().await;
        streaming.send(request).await;
        let mut stream = busy.accept().await;
        stream.read_request().await.unwrap().unwrap();
        stream.write(begins).await;
        assert_eq!(gateway.ask(GET).await.text(), "other");
        let mut waiting = gateway.connect().await;
        waiting.send(GET).await;
        let mut quiet = busy.accept().await;
        quiet.read_request().await.unwrap().unwrap();
        // Three times the limit, which is four times 200 ms.
        for _ in 0..24 {
            stream.write("x").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(users(&other), 1, "nothing was asked elsewhere");
        quiet.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
        assert_eq!(waiting.answer().await.text(), "late");
    }
}
