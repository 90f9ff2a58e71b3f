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
