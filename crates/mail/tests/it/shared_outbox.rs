//! Several instances over one MySQL outbox: each message is sent by one of them, and by another when that one dies.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use testkit::{
    database::Database,
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::{process::Program, service::Mail};

#[tokio::test]
async fn instances_that_share_an_outbox_send_each_message_once() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let args = ["--outbox-url", &url];
    let one = Mail::working(&sink, &args);
    let other = Mail::working(&sink, &args);
    let mut ids = Vec::new();
    for index in 0..60 {
        let mail = if index % 2 == 0 { &one } else { &other };
        ids.push(mail.accepted(&format!("a{index}@b.c")).await);
    }
    for id in &ids {
        // Each instance has it.
        one.until(id, "delivered").await;
    }
    let recipients: HashSet<String> = sink.messages().into_iter().flat_map(|message| message.recipients).collect();
    assert_eq!((sink.messages().len(), recipients.len()), (60, 60));
    let listed = other.get("/v1/messages?limit=200&state=delivered").await.body;
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(60));
}

#[tokio::test]
async fn the_same_key_at_two_instances_is_one_message() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let args = ["--outbox-url", &url];
    let one = Mail::working(&sink, &args);
    let other = Mail::working(&sink, &args);
    let body = json!({ "to": "a@b.c", "text": "hello" });
    let asking =
        (0..20).map(|index| if index % 2 == 0 { one.submit_as("k", &body) } else { other.submit_as("k", &body) });
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == answers[0].body), "{answers:?}");
    one.until(answers[0].body["id"].as_str().unwrap(), "delivered").await;
    let cancelled = other.call("POST", "/v1/messages/none/requeue", &Value::Null).await;
    cancelled.assert(404, "not_found");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn what_a_killed_instance_had_claimed_is_sent_by_another() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    sink.once(Step::Data, Behaviour::Hang);
    let mut dying = Program::start(&["--smtp-url", &sink.url(), "--outbox-url", &url]).await;
    let response = reqwest::Client::new()
        .post(format!("{}/v1/messages", dying.url))
        .json(&json!({ "to": "a@b.c", "text": "hello" }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 202);
    wait_until("the conversation", SOON, || async { sink.commands().iter().any(|line| line == "DATA") }).await;
    dying.process.kill();
    let _other = Mail::working(&sink, &["--outbox-url", &url]);
    wait_until("the other instance", Duration::from_secs(40), || async { sink.messages().len() == 1 }).await;
}

#[tokio::test]
async fn a_database_that_is_killed_and_comes_back_loses_nothing_that_was_accepted() {
    let mut database = Database::stopped();
    let sink = SmtpSink::start().await;
    let url = database.url("mail");
    let mail = Mail::working(&sink, &["--outbox-url", &url]);
    let body = json!({ "to": "a@b.c", "text": "hello" });
    let answer = mail.submit(&body).await;
    answer.assert(503, "outbox_unavailable");
    database.run().await;
    database.create("mail");
    sink.always(Step::Recipient, Behaviour::reply("450 later"));
    let id = mail.accepted("a@b.c").await;
    database.kill();
    mail.submit(&body).await.assert(503, "outbox_unavailable");
    database.run().await;
    sink.behave();
    mail.until(&id, "delivered").await;
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn unknown_outcomes_and_bounces_are_settled_in_mysql_as_in_sqlite() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let mail = Mail::working(&sink, &["--outbox-url", &url]);
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 no such user"));
    let gone = mail.accepted("gone@b.c").await;
    mail.until(&gone, "failed").await;
    let list = mail.get("/v1/suppressions").await.body;
    assert_eq!(list["suppressions"][0]["address"], "gone@b.c", "{list}");
    sink.always(Step::EndOfData, Behaviour::DoAndDrop);
    let unknown = mail.accepted("a@b.c").await;
    let message = mail.until(&unknown, "failed").await;
    assert_eq!((message["recipients"][0]["attempts"].as_i64(), sink.messages().len()), (Some(3), 3), "{message}");
}
