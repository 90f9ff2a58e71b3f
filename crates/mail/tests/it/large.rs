//! Messages of any size: they arrive as they were sent, and take no memory for it.

use std::{io, process::Command, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::Request,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{StreamExt as _, stream};
use mail_parser::{MessageParser, MimeHeaders as _};
use serde_json::{Value, json};
use service_kit::time::UnixMillis;
use testkit::{
    database::Database,
    smtp_sink::{Behaviour, Received, SmtpSink, Step},
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;

use crate::{
    process::{Program, may_mount},
    service::Mail,
};

/// Nothing that could be compressed, or that repeats at the length of a chunk.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn with_files(files: &[Vec<u8>]) -> Value {
    let file = |(index, bytes): (usize, &Vec<u8>)| json!({ "filename": index.to_string(), "content": BASE64_STANDARD.encode(bytes) });
    let files: Vec<Value> = files.iter().enumerate().map(file).collect();
    json!({ "attachments": files, "to": ["a@b.c", "d@e.f"], "subject": "Large", "text": "Grüße\n.\n", "html": "<p>x</p>" })
}

fn check(received: &Received, files: &[Vec<u8>]) {
    let parsed = MessageParser::default().parse(&received.data).unwrap();
    assert_eq!((parsed.subject(), parsed.body_text(0).as_deref()), (Some("Large"), Some("Grüße\r\n.\r\n")));
    assert_eq!(parsed.attachment_count(), files.len());
    for (index, (file, bytes)) in parsed.attachments().zip(files).enumerate() {
        assert_eq!(file.attachment_name(), Some(index.to_string().as_str()));
        assert!(file.contents() == bytes, "file {index} is another one");
    }
    let text = std::str::from_utf8(&received.data).unwrap();
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 78));
}

/// What nobody would ever send, as of now.
async fn orphans(mail: &Mail) -> usize {
    mail.outbox.sweep_chunks(UnixMillis::now() + Duration::from_secs(60)).await.unwrap()
}

#[tokio::test]
async fn large_files_arrive_at_everybody_byte_by_byte_from_either_database() {
    let database = Database::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mysql = database.create("mail");
    let spool = dir.path().join("spool").display().to_string();
    let files = [bytes(3_000_000), Vec::new(), bytes(10), bytes(700_001)];
    for args in [&[][..], &["--outbox-url", &mysql, "--spool-dir", &spool]] {
        let sink = SmtpSink::start().await;
        let mail = Mail::working(&sink, args);
        // In the middle of the text, and after it.
        sink.once(Step::Text, Behaviour::Drop);
        sink.once(Step::EndOfData, Behaviour::Drop);
        let answer = mail.submit(&with_files(&files)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.body["id"].as_str().unwrap();
        mail.until(id, "delivered").await;
        let received = sink.messages();
        assert_eq!((received.len(), sink.violations()), (2, Vec::new()));
        received.iter().for_each(|message| check(message, &files));
        assert_eq!(orphans(&mail).await, 0);
        assert_eq!(mail.outbox.forget(UnixMillis::now() + Duration::from_secs(60)).await.unwrap(), 1);
        assert_eq!(orphans(&mail).await, 1, "what is forgotten leaves its chunks to be swept away");
        assert_eq!(orphans(&mail).await, 0);
    }
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill() {
    let sink = SmtpSink::start().await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = format!("sqlite:{}", dir.path().join("outbox.db").display());
    let url = sink.url();
    let args = ["--smtp-url", &url, "--outbox-url", &outbox, "--retry-first", "50ms"];
    let mut program = Program::start(&args).await;
    let files = [bytes(2_000_000)];
    let mut body = with_files(&files);
    // What is not claimed yet need not wait until a claim expires.
    body["send_at"] = json!(UnixMillis::now() + Duration::from_secs(8));
    let send = reqwest::Client::new().post(format!("{}/v1/messages", program.url)).json(&body).send();
    assert_eq!(send.await.unwrap().status().as_u16(), 202);
    program.process.kill();
    let names = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names().all(|name| name.to_string_lossy().starts_with("outbox.db")), "{:?}", names().collect::<Vec<_>>());
    let program = Program::start(&args).await;
    wait_until("both recipients", SOON * 2, || async { sink.messages_taken() == 2 }).await;
    sink.messages().iter().for_each(|message| check(message, &files));
    assert_eq!(program.terminate().await.0, Some(0));
}

#[tokio::test]
async fn the_same_request_again_is_the_same_message_and_leaves_nothing_behind() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let mail = Mail::working(&sink, &["--outbox-url", &url]);
    let body = with_files(&[bytes(1_000_000)]);
    let first = mail.submit_as("k", &body).await;
    let again = mail.submit_as("k", &body).await;
    assert_eq!((first.status, again.status, &again.body), (202, 202, &first.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    mail.submit_as("k", &with_files(&[bytes(1_000_001)])).await.assert(409, "idempotency_key_reused");
    // Deleted in the background.
    let left = || database.sql("SELECT COUNT(DISTINCT message) FROM mail.content_blocks").trim().to_owned();
    wait_until("only the chunks of the one message", SOON, || async { left() == "1" }).await;
    mail.until(first.body["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(sink.messages_taken(), 2);
}

/// A body that says no length, of these pieces.
fn streamed(pieces: Vec<io::Result<Bytes>>, goes_on: bool) -> Request<Body> {
    let pieces = stream::iter(pieces);
    let body = if goes_on { Body::from_stream(pieces.chain(stream::pending())) } else { Body::from_stream(pieces) };
    Request::post("/v1/messages").body(body).unwrap()
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_nothing_behind_and_takes_nobodys_place() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--message-max-bytes", "2000000"]);
    let body = Bytes::from(with_files(&[bytes(1_000_000)]).to_string());
    let half = || Ok(body.slice(..body.len() / 2));
    let broken = || vec![half(), Err(io::ErrorKind::ConnectionReset.into())];
    for _ in 0..50 {
        mail.request(streamed(broken(), false)).await.assert(400, "body_cut_off");
    }
    mail.request(streamed(vec![half()], false)).await.assert(400, "malformed_json");
    mail.request(streamed(vec![half(), half(), half()], true)).await.assert(413, "body_too_large");
    let nonsense = Bytes::from(format!("{{\"to\":\"a@b.c\",}}{}", " ".repeat(600_000)));
    mail.request(streamed(vec![Ok(nonsense)], true)).await.assert(400, "malformed_json");
    // A client whose connection is gone is not waited for.
    for _ in 0..50 {
        let asked = mail.request(streamed(vec![half()], true));
        assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err());
    }
    let whole =
        || async { mail.request(streamed(vec![half(), Ok(body.slice(body.len() / 2..))], false)).await.status == 202 };
    wait_until("a place is free again", SOON, whole).await;
    assert_eq!(orphans(&mail).await, 0);
    wait_until("both recipients", SOON, || async { sink.messages_taken() == 2 }).await;
}

/// Of a body that is too large to be read at once.
fn large_start() -> Bytes {
    let file = "A".repeat(600_000);
    format!(r#"{{"attachments":[{{"filename":"a","content":"{file}"#).into()
}

#[tokio::test]
async fn more_at_once_than_there_are_places_are_told_so() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let mut waiting = JoinSet::new();
    for _ in 0..24 {
        let mail = mail.clone();
        let start = large_start();
        waiting.spawn(async move { mail.request(streamed(vec![Ok(start)], true)).await });
    }
    for _ in 0..8 {
        let turned_away = waiting.join_next().await.unwrap().unwrap();
        turned_away.assert(503, "busy");
        assert!(turned_away.header("retry-after").is_some());
    }
    assert_eq!(mail.submit(&json!({ "to": "a@b.c", "text": "small" })).await.status, 202, "it needs none");
    waiting.shutdown().await;
    mail.request(streamed(vec![Ok(large_start())], false)).await.assert(400, "malformed_json");
}

#[tokio::test]
async fn a_message_with_a_block_missing_is_never_sent_and_holds_nobody_up() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let mail = Mail::working(&sink, &["--outbox-url", &url]);
    sink.always(Step::Recipient, Behaviour::reply("450 later"));
    let answer = mail.submit(&with_files(&[bytes(1_000_000)])).await;
    let id = answer.body["id"].as_str().unwrap();
    database.sql(&format!("DELETE FROM mail.content_blocks WHERE message = '{id}' AND position = 2"));
    let unreadable = || async {
        let message = mail.get(&format!("/v1/messages/{id}")).await.body;
        let logs = message["recipients"].as_array().unwrap().iter().map(|recipient| recipient["log"].clone());
        logs.filter(|log| log.to_string().contains("content_unreadable")).count() == 2
    };
    // An attempt that had read it before it was damaged has sent what there was by then.
    wait_until("an attempt for each", SOON, unreadable).await;
    sink.behave();
    let other = mail.accepted("x@y.z").await;
    mail.until(&other, "delivered").await;
    assert_eq!(sink.messages_taken(), 1);
    assert_eq!(mail.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn blocks_without_a_message_are_swept_away_when_they_are_old() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let mail = Mail::working(&sink, &["--outbox-url", &url]);
    let id = mail.accepted("a@b.c").await;
    // An id begins with its time in milliseconds: one of 2023, and the one that was just accepted, with another end.
    let young = format!("{}f", &id[..31]);
    let old = (0..250).map(|index| format!("018cc251f4007{index:019}"));
    for message in old.chain([young.clone()]) {
        let rows: Vec<String> = (0..70).map(|position| format!("('{message}', {position}, 'x')")).collect();
        database.sql(&format!("INSERT INTO mail.content_blocks VALUES {}", rows.join(",")));
    }
    assert_eq!(
        mail.outbox.sweep_chunks(UnixMillis::now() - mail::outbox::store::chunks::ORPHANED_AFTER).await.unwrap(),
        250
    );
    assert_eq!(database.sql("SELECT DISTINCT message FROM mail.content_blocks").trim(), young);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_503_for_large_messages_only() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--spool-dir", "/proc/nothing"]);
    let answer = mail.submit(&with_files(&[bytes(1_000_000)])).await;
    answer.assert(503, "spool_unavailable");
    assert!(answer.header("retry-after").is_some() && answer.detail().contains("this request was not accepted"));
    let small = mail.accepted("a@b.c").await;
    mail.until(&small, "delivered").await;
}

/// Needs a file system of its own: a tmpfs in a mount namespace.
#[tokio::test]
async fn a_full_disk_is_507_and_the_next_one_is_taken_when_there_is_room() {
    if !may_mount("a_full_disk_is_507") {
        return;
    }
    let sink = SmtpSink::start().await;
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$1"; exec "$2" --spool-dir "$1" --smtp-url "$3""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).args([env!("CARGO_BIN_EXE_mail"), &sink.url()]);
    let program = Program::start_as(&mut command).await;
    let post = async |len| {
        let url = format!("{}/v1/messages", program.url);
        let response = reqwest::Client::new().post(url).json(&with_files(&[bytes(len)])).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap()["code"].as_str().unwrap_or_default().to_owned())
    };
    // A file of its size fits, the letter with the same in base64 does not.
    for len in [2_000_000, 800_000] {
        assert_eq!(post(len).await, (507, "spool_full".to_owned()), "{len}");
    }
    // It goes over the disk, too, and fits only because nothing is left of the others.
    assert_eq!(post(420_000).await.0, 202);
    assert_eq!(program.terminate().await.0, Some(0));
}

/// The same with the disk of the outbox.
#[tokio::test]
async fn a_message_that_the_outbox_has_no_room_for_leaves_room_for_others() {
    if !may_mount("a_message_that_the_outbox_has_no_room_for") {
        return;
    }
    let sink = SmtpSink::start().await;
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=8m none "$1"; exec "$2" --outbox-url "sqlite:$1/outbox.db" --spool-dir "$4" --smtp-url "$3""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).args([
        env!("CARGO_BIN_EXE_mail"),
        &sink.url(),
        "/var/tmp",
    ]);
    let program = Program::start_as(&mut command).await;
    let post = async |body: Value| {
        let url = format!("{}/v1/messages", program.url);
        reqwest::Client::new().post(url).json(&body).send().await.unwrap().status().as_u16()
    };
    let small = || json!({ "to": "a@b.c", "text": "x".repeat(10_000) });
    assert_eq!(post(small()).await, 202);
    for _ in 0..3 {
        assert_eq!(post(with_files(&[bytes(3_000_000)])).await, 507);
    }
    for _ in 0..10 {
        assert_eq!(post(small()).await, 202);
    }
    assert_eq!(post(with_files(&[bytes(1_000_000)])).await, 202);
    wait_until("all that were accepted", SOON, || async { sink.messages_taken() == 13 }).await;
    assert_eq!(program.terminate().await.0, Some(0));
}

/// The most memory that a process has had so far, in KiB: `VmHWM` in proc(5).
fn peak(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_message_ten_times_as_large_takes_no_more_memory() {
    let sink = SmtpSink::start().await;
    let program = Program::start(&["--smtp-url", &sink.url(), "--message-max-bytes", "104857600"]).await;
    let content = "A".repeat(4_000_000);
    let mut taken = 0;
    let mut send = async |times: usize| {
        let start = r#"{"to":"a@b.c","text":"x","attachments":[{"filename":"a","content":""#;
        let content = Bytes::from(content.clone());
        let pieces = std::iter::once(Bytes::from(start))
            .chain(std::iter::repeat_n(content, times))
            .chain([Bytes::from(r#""}]}"#)])
            .map(Ok::<_, io::Error>);
        let body = reqwest::Body::wrap_stream(stream::iter(pieces));
        let answer =
            reqwest::Client::new().post(format!("{}/v1/messages", program.url)).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 202);
        taken += 1;
        wait_until("it is there", Duration::from_secs(60), || async { sink.messages_taken() == taken }).await;
        peak(&program)
    };
    // Threads and their arenas come with the first messages, whatever their size.
    for _ in 0..3 {
        send(1).await;
    }
    let small = send(1).await;
    let large = send(10).await;
    // Kept in memory, it would be at least the 36 MB that it has more.
    assert!(large < small + 24 * 1024, "{small} KiB for a message of 4 MB, {large} KiB for one of 40 MB");
}
