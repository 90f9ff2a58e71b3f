//! A server that takes few connections: the queue never stands still on our own.

use futures::future::join_all;
use serde_json::Value;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::service::Mail;

/// Attempts that the messages have cost so far.
async fn attempts(mail: &Mail) -> i64 {
    let page = mail.get("/v1/messages?limit=200").await.body;
    let messages = page["messages"].as_array().unwrap().clone();
    messages.iter().map(|message| message["recipients"][0]["attempts"].as_i64().unwrap()).sum()
}

fn outcomes(message: &Value) -> Vec<&str> {
    let log = message["recipients"][0]["log"].as_array().unwrap();
    log.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_hundred_messages_go_over_the_two_connections_that_a_server_takes() {
    let sink = SmtpSink::start().await;
    sink.limit_connections(Some(2));
    let mail = Mail::working(&sink, &["--domain-sends-max", "100"]);
    join_all((0..100).map(|index| {
        let mail = mail.clone();
        async move { mail.accepted(&format!("a{index}@b.c")).await }
    }))
    .await;
    wait_until("all messages", SOON, || async { sink.messages_taken() == 100 }).await;
    assert_eq!(mail.get("/readyz").await.status, 200);
    wait_until("that each cost one attempt", SOON, || async { attempts(&mail).await == 100 }).await;
    assert!(sink.connections_refused() > 0, "the test has tested it");
    assert!(sink.connections_refused() < 40, "{}", sink.connections_refused());
}

#[tokio::test]
async fn what_is_sent_at_once_and_what_is_in_the_outbox_share_the_one_connection_that_a_server_takes() {
    let sink = SmtpSink::start().await;
    sink.limit_connections(Some(1));
    let mail = Mail::working(&sink, &[]);
    let answers = join_all((0..20).map(|index| {
        let mail = mail.clone();
        async move {
            match index % 2 {
                0 => mail.accepted("a@b.c").await,
                _ => mail.send().await.body["message"].as_str().unwrap_or("refused").to_owned(),
            }
        }
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| *answer == "success").count(), 10, "{answers:?}");
    wait_until("all messages", SOON, || async { sink.messages_taken() == 20 }).await;
}

#[tokio::test]
async fn a_queue_that_waits_goes_on_when_the_place_that_another_program_held_is_free() {
    let sink = SmtpSink::start().await;
    sink.limit_connections(Some(1));
    let mut other = TcpStream::connect(sink.address()).await.unwrap();
    other.read_u8().await.unwrap();
    let mail = Mail::working(&sink, &[]);
    for index in 0..5 {
        mail.accepted(&format!("a{index}@b.c")).await;
    }
    wait_until("a refusal", SOON, || async { sink.connections_refused() > 0 }).await;
    assert!(sink.messages().is_empty());
    drop(other);
    wait_until("all messages", SOON, || async { sink.messages_taken() == 5 }).await;
}

#[tokio::test]
async fn a_message_whose_time_is_up_says_nothing_about_how_many_connections_the_server_takes() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--queue-wait", "100ms", "--smtp-deadline", "1s"]);
    sink.once(Step::EndOfData, Behaviour::Hold);
    let held = mail.accepted("d@e.f").await;
    wait_until("a message under way", SOON, || async { sink.held() == 1 }).await;
    sink.always(Step::Greeting, Behaviour::Hang);
    mail.send().await.assert(503, "busy");
    assert_eq!(sink.connections_accepted(), 2, "it knocks once");
    sink.release();
    mail.until(&held, "delivered").await;
}

#[tokio::test]
async fn connections_that_a_server_lets_wait_hold_nothing_up() {
    let sink = SmtpSink::start().await;
    for _ in 0..8 {
        sink.once(Step::Greeting, Behaviour::Hang);
    }
    let mail = Mail::working(&sink, &["--sends-max", "10", "--domain-sends-max", "100"]);
    for index in 0..40 {
        mail.accepted(&format!("a{index}@b.c")).await;
    }
    wait_until("all messages", SOON, || async { sink.messages_taken() == 40 }).await;
    wait_until("that each cost one attempt", SOON, || async { attempts(&mail).await == 40 }).await;
}

#[tokio::test]
async fn a_check_asks_a_connection_that_waits_and_opens_no_other() {
    let sink = SmtpSink::start().await;
    sink.limit_connections(Some(1));
    let mail = Mail::over(&sink, &[]);
    mail.send().await.assert(200, "success");
    let deadlines = || mail::transport::deadlines::StepDeadlines::until(tokio::time::Instant::now() + SOON);
    mail.transport.check(deadlines()).await.unwrap();
    assert_eq!((sink.connections_accepted(), sink.connections_open()), (1, 1));
    sink.once(Step::Sender, Behaviour::Hold);
    let sending = tokio::spawn({
        let mail = mail.clone();
        async move { mail.send().await }
    });
    wait_until("a message under way", SOON, || async { sink.held() == 1 }).await;
    mail.transport.check(deadlines()).await.unwrap();
    assert_eq!(sink.connections_refused(), 1, "none waits, and the one that works shows that the server does");
    sink.release();
    sending.await.unwrap().assert(200, "success");
}

#[tokio::test]
async fn a_connection_that_waited_for_long_enough_is_closed_though_no_message_comes() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--smtp-idle", "100ms"]);
    mail.send().await.assert(200, "success");
    wait_until("the close", SOON, || async { sink.connections_open() == 0 }).await;
    assert_eq!(sink.commands().last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_connection_that_has_served_and_ends_is_replaced_at_once_and_costs_the_message_nothing() {
    let announced = [Step::Sender, Step::Recipient, Step::Data, Step::EndOfData]
        .map(|step| (step, Behaviour::reply("421 4.7.0 that was enough")));
    let broken = [Step::Sender, Step::Recipient, Step::Data].map(|step| (step, Behaviour::Drop));
    join_all(announced.into_iter().chain(broken).map(|(step, behaviour)| async move {
        let sink = SmtpSink::start().await;
        let mail = Mail::working(&sink, &["--retry-first", "1h", "--retry-max", "1h"]);
        let first = mail.accepted("a@b.c").await;
        mail.until(&first, "delivered").await;
        sink.once(step, behaviour.clone());
        let second = mail.accepted("a@b.c").await;
        let message = mail.until(&second, "delivered").await;
        assert_eq!(outcomes(&message), ["sent"], "{behaviour:?} at {step:?}");
        assert_eq!((sink.messages().len(), sink.connections_accepted()), (2, 2), "{behaviour:?} at {step:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_new_connection_that_ends_at_once_is_the_servers_word_about_the_message() {
    let sink = SmtpSink::start().await;
    sink.always(Step::Recipient, Behaviour::reply("421 4.7.0 not today"));
    let mail = Mail::over(&sink, &[]);
    mail.send().await.assert(503, "smtp_deferred");
    assert_eq!(sink.connections_accepted(), 1);
}

#[tokio::test]
async fn a_connection_serves_as_many_messages_as_are_configured_and_then_takes_its_leave() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--smtp-messages-max", "2"]);
    for _ in 0..5 {
        mail.send().await.assert(200, "success");
    }
    assert_eq!((sink.messages().len(), sink.connections_accepted()), (5, 3));
    wait_until("the leave-taking", SOON, || async { sink.connections_open() == 1 }).await;
    assert_eq!(sink.commands().iter().filter(|command| *command == "QUIT").count(), 2);
}
