//! One message to several recipients, and what the server says that it can do: whole conversations, line by line.

use serde_json::{Value, json};
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::service::Mail;

/// State and outcomes of each recipient, in the order of the request.
fn fates(message: &Value) -> Vec<(String, Vec<String>)> {
    let recipients = message["recipients"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let outcomes = |one: &Value| one["log"].as_array().unwrap().iter().map(|log| text(&log["outcome"])).collect();
    recipients.iter().map(|one| (text(&one["state"]), outcomes(one))).collect()
}

fn fate(state: &str, outcomes: &[&str]) -> (String, Vec<String>) {
    (state.to_owned(), outcomes.iter().map(|&outcome| outcome.to_owned()).collect())
}

async fn submit(mail: &Mail, to: &Value, state: &str) -> Value {
    let answer = mail.submit(&json!({ "to": to, "text": "hello" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    mail.until(answer.body["id"].as_str().unwrap(), state).await
}

#[tokio::test]
async fn recipients_of_one_domain_get_one_text_in_one_transaction() {
    let sink = SmtpSink::start().await;
    let args = ["--smtp-hello", "client.example", "--from", "us@example.com", "--domain-sends-max", "1"];
    let mail = Mail::working(&sink, &args);
    let message = submit(&mail, &json!(["a@b.c", "b@b.c", "c@b.c"]), "delivered").await;
    assert_eq!(
        fates(&message),
        [fate("delivered", &["sent"]), fate("delivered", &["sent"]), fate("delivered", &["sent"])]
    );
    let commands = ["EHLO client.example", "MAIL FROM:<us@example.com>", "RCPT TO:<a@b.c>"];
    let rest = ["RCPT TO:<b@b.c>", "RCPT TO:<c@b.c>", "DATA"];
    assert_eq!(sink.commands(), [commands, rest].concat());
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn recipients_of_two_domains_get_two_transactions() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    submit(&mail, &json!(["a@b.c", "a@d.e", "b@b.c"]), "delivered").await;
    let mut recipients: Vec<_> = sink.messages().iter().map(|message| message.recipients.clone()).collect();
    recipients.sort();
    assert_eq!(recipients, [vec!["a@b.c", "b@b.c"], vec!["a@d.e"]]);
}

#[tokio::test]
async fn recipients_of_one_domain_go_together_however_many_of_other_domains_are_between_them() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--sends-max", "10"]);
    let to: Vec<String> = (0..44).map(|index| format!("a{index}@d{}.example", index % 11)).collect();
    submit(&mail, &json!(to), "delivered").await;
    let sizes: Vec<usize> = sink.messages().iter().map(|message| message.recipients.len()).collect();
    assert_eq!(sizes, [4; 11]);
}

#[tokio::test]
async fn in_one_transaction_each_recipient_has_a_fate_of_its_own() {
    let sink = SmtpSink::start().await;
    sink.once(Step::Recipient, Behaviour::DoAndReply("250 2.1.5 ok".to_owned()));
    sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted"));
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 unknown"));
    let mail = Mail::working(&sink, &[]);
    let message = submit(&mail, &json!(["a@b.c", "b@b.c", "c@b.c"]), "partial").await;
    let expected = [
        fate("delivered", &["sent"]),
        fate("delivered", &["smtp_deferred", "sent"]),
        fate("failed", &["smtp_refused"]),
    ];
    assert_eq!(fates(&message), expected);
    let recipients: Vec<_> = sink.messages().iter().map(|message| message.recipients.clone()).collect();
    assert_eq!(recipients, [["a@b.c"], ["b@b.c"]], "no recipient got it twice");
}

#[tokio::test]
async fn a_transaction_in_which_all_are_refused_sends_no_text() {
    let sink = SmtpSink::start().await;
    sink.always(Step::Recipient, Behaviour::reply("550 5.7.1 no"));
    let mail = Mail::working(&sink, &[]);
    let message = submit(&mail, &json!(["a@b.c", "b@b.c"]), "failed").await;
    assert_eq!(fates(&message), [fate("failed", &["smtp_refused"]), fate("failed", &["smtp_refused"])]);
    assert!(!sink.commands().contains(&"DATA".to_owned()));
}

#[tokio::test]
async fn recipients_that_are_too_many_for_one_transaction_go_with_the_next_one_at_once() {
    for reply in ["452 4.5.3 too many recipients", "552 too many recipients"] {
        let sink = SmtpSink::start().await;
        sink.once(Step::Recipient, Behaviour::DoAndReply("250 2.1.5 ok".to_owned()));
        sink.once(Step::Recipient, Behaviour::reply(reply));
        let mail = Mail::working(&sink, &["--retry-first", "1h", "--retry-max", "1h"]);
        submit(&mail, &json!(["a@b.c", "b@b.c"]), "delivered").await;
        let recipients: Vec<_> = sink.messages().iter().map(|message| message.recipients.clone()).collect();
        assert_eq!(recipients, [["a@b.c"], ["b@b.c"]], "{reply}");
    }
}

#[tokio::test]
async fn an_address_that_the_server_does_not_know_goes_on_the_suppression_list() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 no such user"));
    submit(&mail, &json!("Gone@b.c"), "failed").await;
    sink.once(Step::Recipient, Behaviour::reply("550 5.7.1 relay access denied"));
    submit(&mail, &json!("blocked@b.c"), "failed").await;
    sink.once(Step::EndOfData, Behaviour::reply("550 5.1.1 after the text"));
    submit(&mail, &json!("text@b.c"), "failed").await;
    let list = mail.get("/v1/suppressions").await.body;
    let entries = list["suppressions"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{list}");
    let entry = (&entries[0]["address"], &entries[0]["reason"], &entries[0]["detail"]);
    assert_eq!(entry, (&json!("gone@b.c"), &json!("bounce"), &json!("550 5.1.1 no such user")));
    mail.submit(&json!({ "to": "gone@b.c", "text": "hello" })).await.assert(422, "suppressed");
}

#[tokio::test]
async fn an_address_that_bounces_a_message_sent_at_once_goes_on_the_list_too() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 no such user"));
    mail.send().await.assert(502, "smtp_refused");
    wait_until("the entry", SOON, || async {
        mail.get("/v1/suppressions").await.body["suppressions"][0]["address"] == "a@b.c"
    })
    .await;
}

#[tokio::test]
async fn a_message_above_the_size_that_the_server_takes_is_not_sent() {
    let sink = SmtpSink::start().await;
    sink.always(Step::Ehlo, Behaviour::DoAndReply("250-sink\r\n250 size 100".to_owned()));
    let mail = Mail::working(&sink, &[]);
    let message = submit(&mail, &json!("a@b.c"), "failed").await;
    assert_eq!(fates(&message), [fate("failed", &["smtp_too_large"])]);
    let words = message["recipients"][0]["log"][0]["reply"].as_str().unwrap();
    assert!(words.contains("at most 100"), "{words}");
    mail.send().await.assert(502, "smtp_too_large");
    assert!(!sink.commands().iter().any(|command| command.starts_with("MAIL")), "{:?}", sink.commands());
    assert_eq!(mail.get("/readyz").await.status, 200, "nothing is wrong with the server");
}

#[tokio::test]
async fn a_server_that_asks_for_the_size_is_told_it() {
    for offer in ["SIZE 100000", "SIZE 0", "SIZE"] {
        let sink = SmtpSink::start().await;
        sink.always(Step::Ehlo, Behaviour::DoAndReply(format!("250-sink\r\n250 {offer}")));
        let mail = Mail::over(&sink, &["--from", "us@example.com"]);
        mail.send().await.assert(200, "success");
        let size = sink.messages()[0].data.len();
        assert_eq!(sink.commands()[1], format!("MAIL FROM:<us@example.com> SIZE={size}"), "{offer}");
    }
}

#[tokio::test]
async fn helo_is_said_where_ehlo_is_not_known() {
    for reply in [&b"502 5.5.1 unknown"[..], b"500", b"500 \xC3\xFC\xC1\xEE"] {
        let sink = SmtpSink::start().await;
        sink.always(Step::Ehlo, Behaviour::ReplyBytes(reply.to_vec()));
        let mail = Mail::over(&sink, &["--smtp-hello", "client.example"]);
        mail.send().await.assert(200, "success");
        assert_eq!(sink.commands()[..2], ["EHLO client.example", "HELO client.example"], "{}", reply.escape_ascii());
        assert_eq!(sink.connections_accepted(), 1);
    }
}

#[tokio::test]
async fn a_server_that_only_knows_helo_offers_no_starttls_so_nothing_is_sent_in_clear() {
    let sink = SmtpSink::start().await;
    sink.always(Step::Ehlo, Behaviour::reply("502 5.5.1 unknown"));
    let mail = Mail::over(&sink, &["--smtp-tls", "starttls"]);
    let answer = mail.send().await;
    answer.assert(503, "smtp_unreachable");
    assert!(answer.detail().contains("STARTTLS"), "{answer:?}");
}

#[tokio::test]
async fn bounces_go_where_the_return_path_says() {
    for (path, said) in [("bounces@example.com", "MAIL FROM:<bounces@example.com>"), ("<>", "MAIL FROM:<>")] {
        let sink = SmtpSink::start().await;
        let mail = Mail::working(&sink, &["--return-path", path, "--from", "us@example.com"]);
        submit(&mail, &json!("a@b.c"), "delivered").await;
        mail.send().await.assert(200, "success");
        let commands = sink.commands();
        let senders: Vec<_> = commands.iter().filter(|command| command.starts_with("MAIL")).collect();
        assert_eq!(senders, [said, said]);
        assert_eq!(sink.messages()[0].header("From").as_deref(), Some("us@example.com"));
    }
}
