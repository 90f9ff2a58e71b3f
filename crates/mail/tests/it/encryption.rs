//! STARTTLS, TLS and passwords.

use std::io::Write as _;

use tempfile::NamedTempFile;
use testkit::smtp_sink::{Behaviour, SinkOptions, SinkTls, SmtpSink, Step};

use crate::service::Mail;

async fn sink(tls: SinkTls, login: bool) -> (SmtpSink, NamedTempFile) {
    let login = login.then(|| ("me".to_owned(), "correct horse".to_owned()));
    let sink = SmtpSink::start_with(SinkOptions { tls, login }).await;
    let mut ca = NamedTempFile::new().unwrap();
    ca.write_all(sink.ca_pem().as_bytes()).unwrap();
    (sink, ca)
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[tokio::test]
async fn messages_go_over_starttls_and_tls_with_a_password() {
    for tls in [SinkTls::StartTls, SinkTls::Implicit] {
        let (sink, ca) = sink(tls, true).await;
        let mail =
            Mail::over(&sink, &["--smtp-ca-file", path(&ca), "--smtp-user", "me", "--smtp-password", "correct horse"]);
        for _ in 0..2 {
            mail.send().await.assert(200, "success");
        }
        let messages = sink.messages();
        assert_eq!((messages.len(), sink.connections_accepted()), (2, 1), "{tls:?}");
        assert!(messages.iter().all(|message| message.encrypted && message.login.as_deref() == Some("me")), "{tls:?}");
    }
}

#[tokio::test]
async fn opportunistic_encrypts_where_it_can_and_sends_where_it_cannot() {
    for (tls, encrypted) in [(SinkTls::StartTls, true), (SinkTls::Off, false)] {
        let (sink, ca) = sink(tls, false).await;
        let mail = Mail::over(&sink, &["--smtp-tls", "opportunistic", "--smtp-ca-file", path(&ca)]);
        // The certificate is for 127.0.0.1, too.
        mail.send().await.assert(200, "success");
        assert_eq!(sink.messages()[0].encrypted, encrypted);
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_ends_the_session_before_anything_is_said() {
    for tls in [SinkTls::StartTls, SinkTls::Implicit] {
        let (sink, _) = sink(tls, true).await;
        let (_, other_ca) = self::sink(SinkTls::Off, false).await;
        let args = ["--smtp-ca-file", path(&other_ca), "--smtp-user", "me", "--smtp-password", "correct horse"];
        let answer = Mail::over(&sink, &args).send().await;
        answer.assert(503, "smtp_unreachable");
        assert!(answer.detail().contains("certificate"), "{answer:?}");
        let said = sink.commands().join("\n");
        assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{said}");
    }
}

#[tokio::test]
async fn starttls_that_is_not_offered_sends_nothing_in_clear() {
    let (sink, _) = sink(SinkTls::Off, true).await;
    let args = ["--smtp-tls", "starttls", "--smtp-user", "me", "--smtp-password", "correct horse"];
    let answer = Mail::over(&sink, &args).send().await;
    answer.assert(503, "smtp_unreachable");
    assert!(answer.detail().contains("STARTTLS"), "{answer:?}");
    let said = sink.commands().join("\n");
    assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{said}");
}

#[tokio::test]
async fn replies_slipped_in_behind_starttls_end_the_session() {
    let (sink, ca) = sink(SinkTls::StartTls, false).await;
    let mail = Mail::over(&sink, &["--smtp-ca-file", path(&ca)]);
    let injected = "220 go ahead\r\n250 sink\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken";
    sink.once(Step::StartTls, Behaviour::DoAndReply(injected.to_owned()));
    mail.send().await.assert(503, "smtp_unreachable");
    assert!(sink.messages().is_empty());
    mail.send().await.assert(200, "success");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn a_wrong_password_is_502_and_says_what_the_server_said() {
    let (sink, _) = sink(SinkTls::Off, true).await;
    let answer = Mail::over(&sink, &["--smtp-user", "me", "--smtp-password", "battery staple"]).send().await;
    answer.assert(502, "smtp_session_refused");
    assert!(answer.detail().contains("535 5.7.8 wrong user or password"), "{answer:?}");
    assert!(!answer.body.to_string().contains("battery"), "{answer:?}");
    assert!(sink.messages().is_empty());
}

#[tokio::test]
async fn a_hanging_handshake_ends_within_the_deadline() {
    // To a server in clear, a TLS hello is a command line that never ends.
    let sink = SmtpSink::start().await;
    sink.always(Step::Greeting, Behaviour::Hang);
    let url = format!("smtps://localhost:{}", sink.address().port());
    let mail = Mail::over(&sink, &["--smtp-url", &url, "--smtp-deadline", "1s"]);
    mail.send().await.assert(504, "smtp_timeout");
}

#[tokio::test]
async fn above_tls_too_the_code_decides_whatever_the_text() {
    for tls in [SinkTls::StartTls, SinkTls::Implicit] {
        let (sink, ca) = sink(tls, false).await;
        sink.always(Step::StartTls, Behaviour::DoAndReply("220".to_owned()));
        // 邮件已接收 in GBK.
        let taken = b"250 \xD3\xCA\xBC\xFE\xD2\xD1\xBD\xD3\xCA\xD5".to_vec();
        sink.always(Step::EndOfData, Behaviour::DoAndReplyBytes(taken));
        let mail = Mail::over(&sink, &["--smtp-ca-file", path(&ca)]);
        for _ in 0..2 {
            mail.send().await.assert(200, "success");
        }
        let messages = sink.messages();
        assert_eq!((messages.len(), sink.connections_accepted()), (2, 1), "{tls:?}");
        assert!(messages.iter().all(|message| message.encrypted), "{tls:?}");
    }
}

#[tokio::test]
async fn a_server_that_knows_only_auth_login_and_says_so_in_lower_case_is_logged_in_to() {
    let (sink, _) = sink(SinkTls::Off, true).await;
    sink.always(Step::Ehlo, Behaviour::DoAndReply("250-sink\r\n250 auth login".to_owned()));
    let args = |password: &'static str| ["--smtp-user", "me", "--smtp-password", password];
    Mail::over(&sink, &args("correct horse")).send().await.assert(200, "success");
    assert_eq!(sink.messages()[0].login.as_deref(), Some("me"));
    sink.always(Step::Quit, Behaviour::Hang);
    // lettre says QUIT when a question of AUTH ends in a refusal, and would wait for the answer.
    let answer = Mail::over(&sink, &args("battery staple")).send().await;
    answer.assert(502, "smtp_session_refused");
    assert!(answer.detail().contains("535 5.7.8"), "{answer:?}");
}

#[tokio::test]
async fn a_renewed_file_of_authorities_counts_from_the_next_connection_on() {
    let (sink, ca) = sink(SinkTls::Implicit, false).await;
    let (_, other) = self::sink(SinkTls::Off, false).await;
    let right = std::fs::read(ca.path()).unwrap();
    std::fs::copy(other.path(), ca.path()).unwrap();
    let mail = Mail::over(&sink, &["--smtp-ca-file", path(&ca)]);
    mail.send().await.assert(503, "smtp_unreachable");
    std::fs::write(ca.path(), right).unwrap();
    mail.send().await.assert(200, "success");
}
