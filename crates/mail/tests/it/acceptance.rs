//! 200 means that the other side has the message, and the message is what was asked for.

use serde_json::json;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::service::Mail;

#[tokio::test]
async fn a_message_arrives_as_it_was_sent() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--from", "Post <post@example.com>", "--subject", "Default"]);
    let answer = mail.post(&json!({ "address": "a@b.c", "message": "hello" })).await;
    assert_eq!((answer.status, answer.body.to_string().as_str()), (200, r#"{"message":"success"}"#));

    let [message] = &sink.messages()[..] else { panic!("one message") };
    assert_eq!((message.sender.as_str(), message.recipients.join(",").as_str()), ("post@example.com", "a@b.c"));
    assert_eq!(message.header("From").as_deref(), Some("Post <post@example.com>"));
    assert_eq!(message.header("To").as_deref(), Some("a@b.c"));
    assert_eq!(message.header("Subject").as_deref(), Some("Default"));
    assert_eq!(message.header("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(message.header("Message-ID").as_deref(), answer.header("x-message-id"));
    assert!(message.header("Date").is_some());
    assert_eq!(message.body(), "hello\r\n");
    assert_eq!(sink.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn success_is_answered_only_after_the_server_has_taken_the_message() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::EndOfData, Behaviour::Hold);
    let request = tokio::spawn(async move { mail.send().await });
    wait_until("the final dot", SOON, || async { sink.held() == 1 }).await;
    assert!(!request.is_finished() && sink.messages().is_empty(), "the server has not taken it yet");
    sink.release();
    request.await.unwrap().assert(200, "success");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn lines_of_dots_arrive_and_do_not_end_the_message() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for text in [".", "..", ".\n.\n", "a\n.\nb", "a\r\n.\r\nQUIT\r\n", "\n.\n", ".a\n..b\n...", "a\r.\rb"] {
        mail.post(&json!({ "address": "a@b.c", "message": text })).await.assert(200, "success");
        let received = sink.messages().pop().unwrap().body();
        let expected = text.replace("\r\n", "\n").replace('\r', "\n");
        let same = received.replace("\r\n", "\n");
        assert_eq!(same.trim_end_matches('\n'), expected.trim_end_matches('\n'), "{text:?}");
    }
    assert_eq!(sink.messages().len(), 8);
    assert_eq!(sink.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_largest_text_is_taken_and_one_byte_more_is_not() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    // Every character takes two bytes, and six in this JSON.
    let longest = "\\u00e4".repeat(128 * 1024);
    let answer = mail.post_bytes(format!(r#"{{"address":"a@b.c","message":"{longest}"}}"#)).await;
    answer.assert(200, "success");
    let answer = mail.post_bytes(format!(r#"{{"address":"a@b.c","message":"{longest}x"}}"#)).await;
    answer.assert(413, "message_too_large");
    assert_eq!(answer.field(), "message");
    let answer = mail.post_bytes("x".repeat(2 << 20)).await;
    answer.assert(413, "body_too_large");
    assert_eq!((sink.messages().len(), sink.violations()), (1, Vec::new()));
}
