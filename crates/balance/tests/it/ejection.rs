//! An instance that fails is left alone for a while, and comes back.

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Gateway;

const GET: &str = "GET /mail HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_instance_that_refuses_is_ejected_and_returns_when_it_answers_again() {
    let (mut a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::before(&[a.address(), b.address()], &[]);
    let mut client = gateway.connect().await;
    a.down().await;
    for _ in 0..10 {
        assert_eq!(client.ask(GET).await.text(), "b");
    }
    a.up();
    wait_until("the return of a", SOON, async || gateway.get("/mail").await.text() == "a").await;
    let mut names = vec![client.ask(GET).await.text(), client.ask(GET).await.text()];
    names.sort();
    assert_eq!(names, ["a", "b"], "in full rotation again");
}

#[tokio::test]
async fn an_instance_that_never_answers_is_504_twice_and_then_left_alone() {
    let (a, b) = (Upstream::start(|_| Reply::Silence).await, Upstream::named("b").await);
    let gateway = Gateway::before(&[a.address(), b.address()], &["--response-timeout=1s", "--stall-timeout=0s"]);
    let answers = [gateway.get("/mail"), gateway.get("/mail"), gateway.get("/mail"), gateway.get("/mail")];
    let mut answers = futures::future::join_all(answers).await;
    answers.sort_by_key(|answer| answer.status);
    assert_eq!([answers[0].text(), answers[1].text()], ["b", "b"]);
    for timeout in &answers[2..] {
        assert_eq!(timeout.code(), (504, "upstream_timeout".to_owned()));
    }
    for _ in 0..4 {
        assert_eq!(gateway.get("/mail").await.text(), "b");
    }
    assert_eq!(a.requests().len(), 2);
}

#[tokio::test]
async fn the_only_instance_is_used_however_often_it_fails() {
    let mut upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    upstream.down().await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/mail").await.code(), (503, "instance_unreachable".to_owned()));
    }
    upstream.up();
    assert_eq!(gateway.get("/mail").await.status, 200, "not kept out by its own past");
}
