//! Every step of a conversation has a deadline of its own; one that moves has as much time as it needs.

use std::{io::Write as _, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::smtp_sink::{Behaviour, SinkOptions, SinkTls, SmtpSink, Step};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::service::Mail;

fn outcomes(message: &Value) -> Vec<&str> {
    message["recipients"][0]["log"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|attempt| attempt["outcome"].as_str())
        .collect()
}

#[tokio::test]
async fn each_step_that_hangs_ends_in_the_state_that_is_right_for_it() {
    let before = [Step::Greeting, Step::Ehlo, Step::StartTls, Step::Auth, Step::Sender, Step::Recipient, Step::Data];
    let after = [Step::EndOfData];
    join_all(before.into_iter().chain(after).map(|step| async move {
        let login = ("me".to_owned(), "correct horse".to_owned());
        let sink = SmtpSink::start_with(SinkOptions { tls: SinkTls::StartTls, login: Some(login) }).await;
        let mut ca = NamedTempFile::new().unwrap();
        ca.write_all(sink.ca_pem().as_bytes()).unwrap();
        let login = ["--smtp-user", "me", "--smtp-password", "correct horse", "--smtp-tls", "starttls"];
        let limits = ["--smtp-step-max", "4s", "--smtp-patience", "4s", "--smtp-ca-file", ca.path().to_str().unwrap()];
        sink.once(step, if after.contains(&step) { Behaviour::DoAndHang } else { Behaviour::Hang });
        let mail = Mail::working(&sink, &[login.as_slice(), &limits].concat());
        let id = mail.accepted("a@b.c").await;
        let message = mail.until(&id, "delivered").await;
        let received = sink.messages();
        if after.contains(&step) {
            assert_eq!(outcomes(&message), ["outcome_unknown", "sent"], "{step:?}");
            assert_eq!((received.len(), &received[0].data), (2, &received[1].data), "the same Message-ID: {step:?}");
        } else {
            assert_eq!(outcomes(&message), ["smtp_timeout", "sent"], "{step:?}");
            assert_eq!(received.len(), 1, "nothing was delivered before: {step:?}");
        }
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_accepts_and_stops_reading_in_the_middle_of_the_text_holds_nothing_up() {
    let sink = SmtpSink::start().await;
    sink.once(Step::Text, Behaviour::Hang);
    let mail = Mail::working(&sink, &["--smtp-step-max", "4s"]);
    // More than the kernel keeps for a reader who does not read.
    let answer = mail.submit(&large()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let message = mail.until(answer.body["id"].as_str().unwrap(), "delivered").await;
    assert_eq!((outcomes(&message), sink.messages().len()), (vec!["smtp_timeout", "sent"], 1));
}

#[tokio::test]
async fn a_large_message_over_a_slow_line_has_as_much_time_as_it_needs_while_it_moves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let slow = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        converse(stream, Duration::from_millis(400)).await
    });
    let unused = SmtpSink::start().await;
    let mail = Mail::working(&unused, &["--smtp-url", &url, "--smtp-step-max", "5s"]);
    let answer = mail.submit(&large()).await;
    let message = mail.until(answer.body["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(outcomes(&message), ["sent"]);
    let took = message["recipients"][0]["log"][0]["took_ms"].as_i64().unwrap();
    assert!(took > 5000, "slower than one step may be: {took} ms");
    assert!(slow.await.unwrap() > 9_000_000);
}

/// 7 MB of attachment: 9.6 MB on the wire.
fn large() -> Value {
    let content = "A".repeat(7_000_000 / 3 * 4);
    json!({ "to": "a@b.c", "text": "hello", "attachments": [{ "filename": "a.bin", "content": content }] })
}

/// Takes one message, 512 KiB at a time with a rest before each; how long it was.
async fn converse(stream: TcpStream, rest: Duration) -> usize {
    let mut wire = BufReader::new(stream);
    wire.get_mut().write_all(b"220 slow\r\n").await.unwrap();
    loop {
        let mut line = String::new();
        wire.read_line(&mut line).await.unwrap();
        let reply = if line.starts_with("DATA") { "354 go ahead\r\n" } else { "250 ok\r\n" };
        wire.get_mut().write_all(reply.as_bytes()).await.unwrap();
        if line.starts_with("DATA") {
            break;
        }
    }
    let mut bytes = vec![0; 512 * 1024];
    let mut length = 0;
    let mut end = Vec::new();
    while !end.ends_with(b"\r\n.\r\n") {
        tokio::time::sleep(rest).await;
        let mut block = 0;
        while block < bytes.len() && !end.ends_with(b"\r\n.\r\n") {
            let read = wire.read(&mut bytes[block..]).await.unwrap();
            assert!(read > 0, "the client left in the middle");
            end.extend_from_slice(&bytes[block..block + read]);
            end.drain(..end.len().saturating_sub(5));
            block += read;
        }
        length += block;
    }
    wire.get_mut().write_all(b"250 taken\r\n").await.unwrap();
    length
}
