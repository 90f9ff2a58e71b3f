//! The reply's code decides, never its text (RFC 5321, section 4.2): text in any charset, or none.

use futures::future::join_all;
use serde_json::Value;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use crate::service::Mail;

/// 邮件已接收, 用户不存在 and Empfänger as servers send them that know no UTF-8.
const GBK_TAKEN: &[u8] = b"\xD3\xCA\xBC\xFE\xD2\xD1\xBD\xD3\xCA\xD5";
const GBK_UNKNOWN: &[u8] = b"\xD3\xC3\xBB\xA7\xB2\xBB\xB4\xE6\xD4\xDA";
const LATIN_1: &[u8] = b"f\xFCr Empf\xE4nger";

fn attempts(message: &Value) -> Vec<(&str, &str)> {
    let log = message["recipients"][0]["log"].as_array().unwrap();
    log.iter().map(|one| (one["outcome"].as_str().unwrap(), one["reply"].as_str().unwrap())).collect()
}

/// A reply with this code and text.
fn reply(code: &str, text: &[u8]) -> Vec<u8> {
    [code.as_bytes(), text].concat()
}

#[tokio::test]
async fn a_message_that_was_taken_is_sent_once_whatever_the_text_of_the_reply() {
    let replies = [
        reply("250", b""),
        reply("250 ", b""),
        reply("250 2.0.0 ", GBK_TAKEN),
        reply("250 ", LATIN_1),
        reply("250-", &[LATIN_1, b"\r\n250 ", GBK_TAKEN].concat()),
        reply("250-\r\n250", b""),
        reply("257 ", b"what an odd code"),
        reply("270 ", b"what an odd code"),
    ];
    join_all(replies.into_iter().map(|reply| async move {
        let sink = SmtpSink::start().await;
        sink.always(Step::EndOfData, Behaviour::DoAndReplyBytes(reply.clone()));
        let mail = Mail::working(&sink, &[]);
        let id = mail.accepted("a@b.c").await;
        let message = mail.until(&id, "delivered").await;
        let shown = reply.escape_ascii();
        assert_eq!((attempts(&message).len(), sink.messages().len()), (1, 1), "{shown}: {message}");
        mail.send().await.assert(200, "success");
        assert_eq!(sink.messages().len(), 2, "{shown}");
    }))
    .await;
}

#[tokio::test]
async fn a_refusal_for_good_is_one_in_any_charset_at_every_step() {
    join_all([Step::Sender, Step::Recipient, Step::Data, Step::EndOfData].map(|step| async move {
        let sink = SmtpSink::start().await;
        sink.always(step, Behaviour::ReplyBytes(reply("550 ", GBK_UNKNOWN)));
        let mail = Mail::working(&sink, &[]);
        let id = mail.accepted("a@b.c").await;
        let message = mail.until(&id, "failed").await;
        let words = "550 \\xD3\\xC3\\xBB\\xA7\\xB2\\xBB\\xB4\\xE6\\xD4\\xDA";
        assert_eq!(attempts(&message), [("smtp_refused", words)], "{step:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_session_is_opened_whatever_the_text_of_greeting_and_ehlo() {
    for text in [&b""[..], b" ", LATIN_1] {
        let sink = SmtpSink::start().await;
        let greeting = if text.is_empty() { b"220".to_vec() } else { reply("220 ", text) };
        sink.always(Step::Greeting, Behaviour::DoAndReplyBytes(greeting));
        let extensions =
            if text.is_empty() { b"250".to_vec() } else { reply("250-", &[text, b"\r\n250 8bitmime"].concat()) };
        sink.always(Step::Ehlo, Behaviour::DoAndReplyBytes(extensions));
        let mail = Mail::over(&sink, &[]);
        mail.send().await.assert(200, "success");
        mail.send().await.assert(200, "success");
        assert_eq!((sink.messages().len(), sink.connections_accepted()), (2, 1), "{}", text.escape_ascii());
    }
}

#[tokio::test]
async fn every_reply_of_a_conversation_may_be_a_bare_code() {
    let sink = SmtpSink::start().await;
    for (step, code) in [
        (Step::Greeting, "220"),
        (Step::Ehlo, "250"),
        (Step::Sender, "250"),
        (Step::Recipient, "250"),
        (Step::Data, "354"),
        (Step::EndOfData, "250"),
        (Step::Reset, "250"),
        (Step::Quit, "221"),
    ] {
        sink.always(step, Behaviour::DoAndReply(code.to_owned()));
    }
    let mail = Mail::over(&sink, &["--smtp-hello", "client.example", "--from", "us@example.com"]);
    mail.send().await.assert(200, "success");
    mail.send().await.assert(200, "success");
    mail.transport.close().await;
    let message = ["MAIL FROM:<us@example.com>", "RCPT TO:<a@b.c>", "DATA"];
    let expected = [&["EHLO client.example"], message.as_slice(), &["RSET"], message.as_slice(), &["QUIT"]].concat();
    assert_eq!(sink.commands(), expected);
}

#[tokio::test]
async fn an_unknown_outcome_is_repeated_twice_and_no_more() {
    for behaviour in [Behaviour::DoAndDrop, Behaviour::DoAndReply("what?".to_owned())] {
        let sink = SmtpSink::start().await;
        sink.always(Step::EndOfData, behaviour.clone());
        let mail = Mail::working(&sink, &[]);
        let id = mail.accepted("a@b.c").await;
        let message = mail.until(&id, "failed").await;
        let outcomes: Vec<_> = attempts(&message).into_iter().map(|(outcome, _)| outcome).collect();
        assert_eq!((outcomes, sink.messages().len()), (vec!["outcome_unknown"; 3], 3), "{behaviour:?}");
        let ids: Vec<_> = sink.messages().iter().map(|message| message.header("Message-ID")).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[tokio::test]
async fn an_unsolicited_reply_is_not_taken_for_the_next_one() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    // With the next one off by one, the message would look accepted before it was sent.
    sink.once(Step::Data, Behaviour::reply("354 go ahead\r\n250 taken"));
    let id = mail.accepted("a@b.c").await;
    let message = mail.until(&id, "delivered").await;
    let outcomes: Vec<_> = attempts(&message).into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!((outcomes, sink.messages().len()), (vec!["smtp_nonsense", "sent"], 1));
}

#[tokio::test]
async fn a_server_that_breaks_off_in_the_middle_of_the_text_is_heard_when_it_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = BufReader::new(stream);
        wire.write_all(b"220 h\r\n").await.unwrap();
        for reply in ["250 h\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"] {
            wire.read_line(&mut String::new()).await.unwrap();
            wire.write_all(reply.as_bytes()).await.unwrap();
        }
        wire.read_exact(&mut [0; 1000]).await.unwrap();
        wire.write_all(b"552 5.3.4 \xCC\xAB\xB4\xF3\r\n").await.unwrap();
    });
    let unused = SmtpSink::start().await;
    let mail = Mail::working(&unused, &["--smtp-url", &url]);
    let content = "A".repeat(4_000_000);
    let attachments = serde_json::json!([{ "filename": "a.bin", "content": content }]);
    let answer = mail.submit(&serde_json::json!({ "to": "a@b.c", "text": "hello", "attachments": attachments })).await;
    let message = mail.until(answer.body["id"].as_str().unwrap(), "failed").await;
    assert_eq!(attempts(&message), [("smtp_refused", "552 5.3.4 \\xCC\\xAB\\xB4\\xF3")]);
    server.await.unwrap();
    wait_until("nothing else", SOON, || async { unused.messages().is_empty() }).await;
}
