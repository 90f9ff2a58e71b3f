//! What the README shows, through the gateway.

use e2e::suite::Suite;
use reqwest::{Method, StatusCode};
use serde_json::json;
use testkit::wait::{SOON, wait_for};

#[tokio::test]
async fn users_are_put_got_and_deleted_through_the_gateway() {
    let suite = Suite::start().await;
    let put = suite.post("userlist", json!({"method": "put", "name": "dong", "email": "d@example.com"})).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    let got = suite.post("userlist", json!({"method": "get", "name": "dong"})).await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
    assert_eq!((&got.body["name"], &got.body["email"]), (&json!("dong"), &json!("d@example.com")));
    assert!(got.body["id"].is_i64(), "{got:?}");
    let rest = suite.request(Method::GET, "/userlist/v1/users/dong", None).await;
    assert_eq!((rest.status, &rest.body["id"]), (StatusCode::OK, &got.body["id"]), "{rest:?}");
    let deleted = suite.post("userlist", json!({"method": "del", "name": "dong"})).await;
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
    let gone = suite.post("userlist", json!({"method": "get", "name": "dong"})).await;
    assert_eq!((gone.status, &gone.body["code"]), (StatusCode::NOT_FOUND, &json!("no_such_user")), "{gone:?}");
}

#[tokio::test]
async fn a_mail_that_was_answered_with_success_is_in_the_folder() {
    let suite = Suite::start().await;
    let sent = suite.post("mail", json!({"address": "a@b.c", "message": "hello from the gateway"})).await;
    assert_eq!((sent.status, &sent.body), (StatusCode::OK, &json!({"message": "success"})), "{sent:?}");
    let mails = suite.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].contains("hello from the gateway") && mails[0].contains("a@b.c"), "{}", mails[0]);
    let refused = suite.post("mail", json!({"address": "nobody", "message": "hello"})).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    assert_eq!(refused.body["errors"][0]["field"], "address", "{refused:?}");
}

#[tokio::test]
async fn requests_are_spread_over_both_instances() {
    let mut suite = Suite::start().await;
    suite.terminate("userlist-1").await;
    suite.wait_for_instances("userlist", 1).await;
    let one = suite.post("userlist", json!({"method": "put", "name": "a", "email": "a@example.com"})).await;
    assert_eq!(one.status, StatusCode::OK, "the other instance goes on alone: {one:?}");
    suite.run("userlist-1");
    suite.wait_for_instances("userlist", 2).await;
    suite.terminate("userlist-2").await;
    // The registry lists it; the gateway may hear of that a moment later.
    let other = wait_for("the other instance alone", SOON, async || {
        let answer = suite.post("userlist", json!({"method": "get", "name": "a"})).await;
        (answer.status == StatusCode::OK).then_some(answer)
    })
    .await;
    assert_eq!((other.status, &other.body["email"]), (StatusCode::OK, &json!("a@example.com")), "{other:?}");
}
