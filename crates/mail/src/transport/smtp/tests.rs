//! Conversations with a real server.

use std::time::Duration;

use lettre::address::Envelope;
use testkit::smtp_sink::SmtpSink;

use super::*;
use crate::message::{MessageId, content::Content};

fn message(content: Content) -> Message {
    let address = || "a@b.c".parse().unwrap();
    let envelope = Envelope::new(Some(address()), vec![address()]).unwrap();
    Message::stored(MessageId::stored("<1@b.c>".to_owned()), envelope, content)
}

fn transport(sink: &SmtpSink) -> SmtpTransport {
    let host = sink.address().ip().to_string();
    let port = sink.address().port();
    let server = Server { host, port, tls_mode: TlsMode::None, tls: None, login: None, hello: None, return_path: None };
    let connections = Connections { idle_max: Duration::from_secs(60), messages_max: 100, open_max: 10 };
    SmtpTransport::new(server, connections)
}

#[tokio::test]
async fn a_message_that_cannot_be_read_to_its_end_is_broken_off_before_the_final_dot() {
    let sink = SmtpSink::start().await;
    let transport = transport(&sink);
    let deadlines = StepDeadlines::by_step(Duration::from_secs(20), Duration::from_secs(20));
    for len in [1_000, 1_000_000] {
        let outcomes = transport.deliver(&message(Content::broken(len)), deadlines).await;
        assert!(matches!(outcomes.as_slice(), [Err(DeliveryError::Unreadable { .. })]), "{outcomes:?}");
    }
    let whole = message(b"Subject: whole\r\n\r\nx\r\n".to_vec().into());
    assert!(transport.deliver(&whole, deadlines).await[0].is_ok());
    let subjects: Vec<_> = sink.messages().iter().map(|message| message.header("Subject")).collect();
    assert_eq!(subjects, [Some("whole".to_owned())], "nothing else has arrived");
}
