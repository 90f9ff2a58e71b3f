//! Connections are used again, and one that the server has closed costs nothing but a new one.

use std::time::Duration;

use futures::future::join_all;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::service::Mail;

#[tokio::test]
async fn one_connection_serves_many_messages() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for _ in 0..5 {
        mail.send().await.assert(200, "success");
    }
    assert_eq!((sink.messages().len(), sink.connections_accepted()), (5, 1));
}

#[tokio::test]
async fn a_connection_of_the_outbox_is_asked_only_after_a_rest_or_a_refusal() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--sends-max", "1", "--domain-sends-max", "1"]);
    // All of them wait when the first one is over.
    sink.once(Step::Sender, Behaviour::Hold);
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(mail.accepted("a@b.c").await);
    }
    sink.release();
    for id in &ids {
        mail.until(id, "delivered").await;
    }
    let resets = || sink.commands().iter().filter(|command| *command == "RSET").count();
    assert!(resets() < 5, "one for each message but the first, as if they had rested: {:?}", sink.commands());
    let before = resets();
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 no"));
    let refused = mail.accepted("d@e.f").await;
    mail.until(&refused, "failed").await;
    let next = mail.accepted("a@b.c").await;
    mail.until(&next, "delivered").await;
    assert!(resets() > before, "what a refusal left behind is forgotten first");
    assert_eq!(sink.connections_accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_a_moment_ago_costs_no_attempt() {
    for last_line in ["250 2.0.0 taken\r\n421 4.3.2 closing", "250 2.0.0 taken\r\n250 what"] {
        let sink = SmtpSink::start().await;
        let mail = Mail::working(&sink, &["--sends-max", "1"]);
        sink.once(Step::EndOfData, Behaviour::DoAndReply(last_line.to_owned()));
        let ids = join_all([(); 4].map(|()| mail.accepted("a@b.c"))).await;
        for id in &ids {
            let message = mail.until(id, "delivered").await;
            assert_eq!(message["recipients"][0]["attempts"], 1, "{last_line}: {message}");
        }
        assert_eq!((sink.messages().len(), sink.connections_accepted()), (4, 2), "{last_line}");
    }
}

#[tokio::test]
async fn a_connection_is_left_after_a_hundred_messages() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for _ in 0..101 {
        mail.send().await.assert(200, "success");
    }
    assert_eq!((sink.messages().len(), sink.connections_accepted()), (101, 2));
}

#[tokio::test]
async fn a_waiting_connection_that_the_server_closed_is_replaced() {
    for last_line in [None, Some("421 4.4.2 idle for too long")] {
        let sink = SmtpSink::start().await;
        let mail = Mail::over(&sink, &[]);
        mail.send().await.assert(200, "success");
        sink.close_connections(last_line);
        wait_until("the close", SOON, || async { sink.connections_open() == 0 }).await;
        mail.send().await.assert(200, "success");
        assert_eq!((sink.messages().len(), sink.connections_accepted()), (2, 2));
    }
}

#[tokio::test]
async fn a_waiting_connection_that_fell_silent_is_replaced() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    mail.send().await.assert(200, "success");
    sink.once(Step::Reset, Behaviour::Hang);
    mail.send().await.assert(200, "success");
    assert_eq!((sink.messages().len(), sink.connections_accepted()), (2, 2));
}

#[tokio::test]
async fn a_connection_survives_a_refusal_but_not_the_announcement_of_its_end() {
    for (reply, connections) in [("550 no", 1), ("450 later", 1), ("421 closing", 2)] {
        let sink = SmtpSink::start().await;
        let mail = Mail::over(&sink, &[]);
        sink.once(Step::Recipient, Behaviour::reply(reply));
        assert_ne!(mail.send().await.status, 200);
        mail.send().await.assert(200, "success");
        assert_eq!((sink.messages().len(), sink.connections_accepted()), (1, connections), "{reply}");
    }
}

#[tokio::test]
async fn a_connection_that_waited_too_long_is_closed() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--smtp-idle", "0s"]);
    for _ in 0..3 {
        mail.send().await.assert(200, "success");
    }
    assert_eq!((sink.messages().len(), sink.connections_accepted()), (3, 3));
    wait_until("the close", SOON, || async { sink.connections_open() <= 1 }).await;
}

#[tokio::test]
async fn closing_says_goodbye_and_leaves_no_connection() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    mail.send().await.assert(200, "success");
    mail.transport.close().await;
    wait_until("the close", SOON, || async { sink.connections_open() == 0 }).await;
    assert_eq!(sink.commands().last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn no_more_connections_than_messages_at_a_time() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--sends-max", "3", "--queue-wait", "60s"]);
    let answers = join_all((0..30).map(|_| mail.send())).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(sink.messages().len(), 30);
    assert!(sink.connections_accepted() <= 3, "{}", sink.connections_accepted());
    tokio::time::timeout(Duration::from_secs(10), mail.transport.close()).await.unwrap();
}
