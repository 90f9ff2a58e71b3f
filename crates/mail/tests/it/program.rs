//! The program: starting before everything else, leaving without losing anything, saying nothing private.

use std::{
    fs,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    http::{Method, Uri},
};
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::{
    process::Process,
    smtp_sink::{Behaviour, SinkOptions, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::process::{Program, may_mount};

#[tokio::test]
async fn it_starts_before_the_smtp_server_and_notices_it_by_itself() {
    let mut sink = SmtpSink::start().await;
    sink.down().await;
    let program = Program::start(&["--smtp-url", &sink.url(), "--smtp-check-interval", "100ms"]).await;
    assert_eq!(program.get("/healthz").await.0, 200);
    let (status, body) = program.send().await;
    assert_eq!((status, body["code"].as_str()), (503, Some("smtp_unreachable")), "{body}");
    let (status, body) = program.get("/readyz").await;
    assert!(status == 503 && body.contains("refused"), "{body}");
    sink.up();
    wait_until("ready", SOON, || async { program.get("/readyz").await.0 == 200 }).await;
    assert_eq!(program.send().await.0, 200);
    sink.down().await;
    wait_until("not ready", SOON, || async { program.get("/readyz").await.0 == 503 }).await;
    assert_eq!(program.terminate().await.0, Some(0));
}

#[tokio::test]
async fn sigterm_finishes_the_message_under_way() {
    let sink = SmtpSink::start().await;
    let mut program = Program::start(&["--smtp-url", &sink.url()]).await;
    sink.once(Step::EndOfData, Behaviour::Hold);
    let url = program.url.clone();
    let body = json!({ "address": "a@b.c", "message": "hello" });
    let request = tokio::spawn(reqwest::Client::new().post(&url).json(&body).send());
    wait_until("the final dot", SOON, || async { sink.held() == 1 }).await;
    assert!(program.process.signal(Signal::SIGTERM));
    wait_until("a closed port", SOON, || async {
        tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.is_err()
    })
    .await;
    sink.release();
    assert_eq!(request.await.unwrap().unwrap().status().as_u16(), 200);
    assert_eq!(program.exit_code().await.0, Some(0));
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn it_registers_as_mail_and_leaves_before_it_stops_serving() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let registry = Router::new().fallback({
        let seen = Arc::clone(&seen);
        async move |method: Method, uri: Uri, body: Bytes| {
            let body = String::from_utf8_lossy(&body).into_owned();
            seen.lock().unwrap().push(format!("{method} {} {body}", uri.path()));
            Json(json!({ "ttl_ms": 5000, "next_heartbeat_ms": 2000, "status": "passing", "revision": 1 }))
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry_url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, registry).await });

    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("mail");
    let args = ["--registry", registry_url.as_str(), "--dir", folder.to_str().unwrap()];
    let program = Program::start(&args).await;
    let address = program.url.trim_start_matches("http://").to_owned();
    let path = format!("/v1/services/mail/instances/{address}");
    let has = |start: &str| seen.lock().unwrap().iter().any(|request| request.starts_with(start));
    wait_until("a heartbeat", SOON, || async { has(&format!("PUT {path} ")) }).await;
    assert_eq!(program.send().await.0, 200, "a service that registers without SMTP writes files");
    assert_eq!(program.terminate().await.0, Some(0));
    wait_until("the deletion", SOON, || async { has(&format!("DELETE {path}")) }).await;
    let requests = seen.lock().unwrap().clone();
    let draining = requests.iter().position(|request| request.contains("draining"));
    let deleted = requests.iter().position(|request| request.starts_with(&format!("DELETE {path}")));
    assert!(draining.is_some() && draining < deleted, "{requests:?}");
    serving.abort();
}

#[tokio::test]
async fn while_smtp_is_away_the_heartbeat_says_degraded_and_why() {
    let conditions: Arc<Mutex<Vec<String>>> = Arc::default();
    let registry = Router::new().fallback({
        let conditions = Arc::clone(&conditions);
        async move |body: Bytes| {
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            conditions.lock().unwrap().push(format!("{} {}", word("status"), word("reason")).trim().to_owned());
            Json(json!({ "ttl_ms": 5000, "next_heartbeat_ms": 2000, "status": "passing", "revision": 1 }))
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry_url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, registry).await });
    let mut sink = SmtpSink::start().await;
    let url = sink.url();
    let args = ["--registry", registry_url.as_str(), "--smtp-url", &url, "--smtp-check-interval", "100ms"];
    let program = Program::start(&args).await;
    let last = || conditions.lock().unwrap().last().cloned();
    wait_until("passing", SOON, || async { last().as_deref() == Some("") }).await;
    sink.down().await;
    wait_until("degraded, with the reason", SOON, || async {
        last().is_some_and(|last| last.starts_with("degraded smtp: no session with the SMTP server"))
    })
    .await;
    sink.up();
    wait_until("passing again", SOON, || async { last().as_deref() == Some("") }).await;
    assert!(!conditions.lock().unwrap().iter().any(|said| said.starts_with("critical")), "it stays in rotation");
    assert_eq!(program.terminate().await.0, Some(0));
    serving.abort();
}

#[tokio::test]
async fn no_address_text_or_password_is_ever_logged() {
    let login = Some(("user-private".to_owned(), "password-private".to_owned()));
    let sink = SmtpSink::start_with(SinkOptions { login, ..SinkOptions::default() }).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail"));
    command
        .env("MAIL_SMTP_URL", sink.url())
        .env("MAIL_SMTP_USER", "user-private")
        .env("MAIL_SMTP_PASSWORD", "password-private")
        .env("MAIL_SMTP_DEADLINE", "6s")
        .env("RUST_LOG", "trace");
    let program = Program::start_as(&mut command).await;
    let body = json!({
        "address": "recipient-private@domain-private.example",
        "message": "text-private",
        "subject": "subject-private",
    });
    let words = "<recipient-private@domain-private.example> is unknown";
    for (step, behaviour, status) in [
        (Step::Noop, Behaviour::Hang, 200),
        (Step::Recipient, Behaviour::reply(&format!("550 5.7.1 {words}")), 502),
        (Step::Recipient, Behaviour::reply(&format!("450 4.1.1 {words}")), 503),
        (Step::Sender, Behaviour::reply(&format!("what {words}")), 502),
        (Step::EndOfData, Behaviour::reply(&format!("what {words}")), 504),
        (Step::Recipient, Behaviour::Hang, 504),
        (Step::Auth, Behaviour::reply("535 5.7.8 user-private gave password-private"), 502),
    ] {
        sink.once(step, behaviour);
        let (found, answer) = program.post(&body).await;
        assert_eq!(found, status, "{step:?}: {answer}");
    }
    for bad in [
        json!({ "address": "recipient-private", "message": "text-private" }),
        json!({ "address": "a@b.c", "message": "text-private\u{0}" }),
        json!({ "address": "a@b.c", "message": "x", "subject": "subject-private\n" }),
    ] {
        assert_eq!(program.post(&bad).await.0, 422);
    }
    let readiness = program.get("/readyz").await.1;
    let (code, output) = program.terminate().await;
    assert_eq!(code, Some(0));
    assert!(output.contains("smtp_deferred") && output.contains("outcome_unknown"), "failures are logged: {output}");
    let leaks: Vec<&str> = output.lines().filter(|line| line.contains("-private")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    assert!(!readiness.contains("-private"), "{readiness}");
}

#[tokio::test]
async fn all_configuration_mistakes_are_reported_at_once_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail"));
    command.env("MAIL_SMTP_URL", "http://me:hunter2@relay").env("MAIL_SMTP_CA_FILE", "/nowhere/ca.pem");
    let mut process = Process::start(&mut command, &dir.path().join("output")).unwrap();
    let status = tokio::task::spawn_blocking(move || (process.wait(SOON), process.output())).await.unwrap();
    let (Some(code), output) = (status.0.unwrap().code(), status.1) else { panic!("it must end by itself") };
    assert_eq!(code, 64);
    assert!(output.contains("MAIL_SMTP_URL") && output.contains("MAIL_SMTP_CA_FILE"), "{output}");
    assert!(!output.contains("hunter2"), "{output}");
}

#[tokio::test]
async fn help_does_not_show_the_values_of_secrets() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail"));
    command.arg("--help").env("MAIL_SMTP_URL", "smtp://me:hunter2@relay").env("MAIL_SMTP_PASSWORD", "hunter2");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("MAIL_SMTP_PASSWORD") && !help.contains("hunter2"), "{help}");
}

/// Needs a file system of its own: a tmpfs in a mount namespace, which the kernel grants to root and usually to
/// anybody.
#[tokio::test]
async fn a_full_disk_is_503_and_leaves_no_file() {
    if !may_mount("a_full_disk_is_503_and_leaves_no_file") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script =
        r#"mount -t tmpfs -o size=64k none "$1" && head -c 65536 /dev/zero > "$1/filler"; exec "$2" --dir "$1""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).arg(env!("CARGO_BIN_EXE_mail"));
    let program = Program::start_as(&mut command).await;
    let folder = program.its_path(dir.path());
    let names = || -> Vec<String> {
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for _ in 0..3 {
        let (status, body) = program.send().await;
        assert_eq!((status, body["code"].as_str()), (503, Some("storage_full")), "{body}");
        assert_eq!(names(), ["filler"]);
    }
    let (status, body) = program.get("/readyz").await;
    assert!(status == 503 && body.contains("folder"), "{body}");
    fs::remove_file(folder.join("filler")).unwrap();
    assert_eq!(program.send().await.0, 200);
    assert!(names().len() == 1 && names()[0].ends_with(".eml"), "{:?}", names());
    assert_eq!(program.terminate().await.0, Some(0));
}

#[tokio::test]
async fn a_full_disk_under_the_outbox_is_507_before_anything_is_accepted_and_ends_by_itself() {
    if !may_mount("a_full_disk_under_the_outbox") {
        return;
    }
    let sink = SmtpSink::start().await;
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=2m none "$1"; exec "$2" --outbox-url "sqlite:$1/outbox.db" --smtp-url "$3""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).arg(env!("CARGO_BIN_EXE_mail")).arg(sink.url());
    let program = Program::start_as(&mut command).await;
    let folder = program.its_path(dir.path());
    let url = format!("{}/v1/messages", program.url);
    let submit = async || {
        let body = json!({ "to": "a@b.c", "text": "x".repeat(100_000) });
        reqwest::Client::new().post(&url).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(submit().await, 202);
    wait_until("the first", SOON, || async { sink.messages().len() == 1 }).await;
    let filler = folder.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok_and(|written| written > 0) {}
    for _ in 0..3 {
        let status = submit().await;
        assert!(matches!(status, 507 | 503), "{status}");
    }
    drop(file);
    fs::remove_file(&filler).unwrap();
    assert_eq!(submit().await, 202);
    wait_until("the second", SOON, || async { sink.messages().len() == 2 }).await;
    assert_eq!(program.terminate().await.0, Some(0));
}
