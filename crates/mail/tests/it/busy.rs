//! Bounded work: a message waits its turn for so long, and so many may wait.

use futures::future::join_all;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::service::Mail;

#[tokio::test]
async fn a_message_whose_turn_does_not_come_is_turned_away_with_503() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--sends-max", "1", "--queue-wait", "50ms"]);
    sink.once(Step::Sender, Behaviour::Hold);
    let first = tokio::spawn({
        let mail = mail.clone();
        async move { mail.send().await }
    });
    wait_until("the first message", SOON, || async { sink.held() == 1 }).await;
    let second = mail.send().await;
    second.assert(503, "busy");
    assert_eq!(second.header("retry-after"), Some("1"));
    sink.release();
    first.await.unwrap().assert(200, "success");
    mail.send().await.assert(200, "success");
}

#[tokio::test]
async fn those_who_would_wait_in_vain_are_turned_away_at_once() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--sends-max", "1", "--queue-wait", "1h"]);
    sink.once(Step::Sender, Behaviour::Hold);
    let all = tokio::spawn({
        let mail = mail.clone();
        async move { join_all((0..40).map(|_| mail.send())).await }
    });
    wait_until("the first message", SOON, || async { sink.held() == 1 }).await;
    sink.release();
    let answers = all.await.unwrap();
    let count = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
    // One at a time, and sixteen who wait for each.
    assert_eq!((count("success"), count("busy")), (17, 23));
    assert_eq!(sink.messages().len(), 17);
}

#[tokio::test]
async fn the_answer_that_a_key_has_got_is_there_also_while_others_wait() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--sends-max", "1", "--queue-wait", "1h"]);
    let message = serde_json::json!({ "address": "a@b.c", "message": "hello" });
    mail.post_as("k", "/", &message).await.assert(200, "success");
    sink.once(Step::Sender, Behaviour::Hold);
    let all: Vec<_> = (0..40)
        .map(|_| {
            let mail = mail.clone();
            tokio::spawn(async move { mail.send().await })
        })
        .collect();
    let turned_away = || all.iter().filter(|one| one.is_finished()).count();
    wait_until("all places taken", SOON, || async { sink.held() == 1 && turned_away() == 23 }).await;
    mail.post_as("k", "/", &message).await.assert(200, "success");
    sink.release();
    let answers = join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)).count(), 17);
}
