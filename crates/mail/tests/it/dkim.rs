//! What we sign, others can verify: dkimpy does, on the bytes that came out of the SMTP conversation.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use testkit::{
    python::python,
    smtp_sink::SmtpSink,
    wait::{SOON, wait_until},
};

use crate::service::Mail;

/// Made for this test; `openssl rsa -pubout` says the public half.
const RSA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dkim/rsa.pem");
const RSA_RECORD: &str = "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtNMd4Ihjj5SSe89ScdQqsPkISb9e79aCgIUVWH5nUphKC1mCgpXV9pWs8R4sU1tJP6+hPD/M8qge7Nqvfne5W21QoOhk5IYbz8v2S2BekRu3KHd6Tj7i0M2yWaJ32pvt1cSwQCWkmNhVqBWYD3xl7r57FAH8WM8OlQ/JZyP8QA9zemS2gyevERmF52dsnZdgFwIVLZSmb/gJDdx34Hw+FOVYzUiaVLdVAuOzTbbFfmYWiIahqiVOth5tyMy+SWqpMpHqKSiwpMF48RKIwzs+wZ1s8fBqZ5nvdRrurK/LxsBfuy+sFO2AexojHY/D2lyYrMPUfEbfWRpVxsG4qz4TjQIDAQAB";

/// Whether dkimpy takes the signature, under the key that `record` holds.
async fn verified(message: Vec<u8>, record: &str) -> String {
    let mut command = python("python");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dkim/verify.py")).arg(record);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        child.stdin.take().unwrap().write_all(&message)?;
        child.wait_with_output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a relay or a reader could stumble over: folded headers, encoded words, dots, blank lines, parts.
fn messages() -> Vec<Value> {
    let many: Vec<String> = (0..20).map(|index| format!("Nobody Number {index} <nobody{index}@example.org>")).collect();
    vec![
        json!({ "to": "a@b.c", "subject": "Plain", "text": "hello" }),
        json!({ "to": many, "cc": "c@d.e", "reply_to": "r@s.t", "subject": "x ".repeat(90), "text": "hello" }),
        json!({ "to": "Zoë <a@b.c>", "subject": "Größe 日本語 ".repeat(5), "text": "Grüße\n\n\n", "html": "<p>ü</p>" }),
        json!({ "to": "a@b.c", "subject": "Dots", "text": ".\n..\n.a  b\t \n\n.\n \n\n" }),
        json!({ "to": "a@b.c", "subject": "Parts", "text": "x", "headers": { "X-Tag": "ä" },
                "attachments": [{ "filename": "büro.txt", "content": BASE64_STANDARD.encode("x\r\n".repeat(500)) }] }),
        json!({ "to": "a@b.c", "subject": "Large", "text": "x",
                "attachments": [{ "filename": "a", "content": BASE64_STANDARD.encode(vec![b'.'; 1_000_000]) }] }),
    ]
}

async fn signed(key: &str, record: &str) {
    let sink = SmtpSink::start().await;
    let args = ["--from", "Post <post@example.com>", "--dkim-key-file", key, "--dkim-selector", "s1"];
    let mail = Mail::working(&sink, &args);
    for (index, message) in messages().into_iter().enumerate() {
        let before = sink.messages().len();
        let answer = mail.submit(&message).await;
        let recipients = usize::try_from(answer.body["recipients"].as_u64().unwrap()).unwrap();
        wait_until("the message", SOON, || async { sink.messages().len() == before + recipients }).await;
        let data = sink.messages().pop().unwrap().data;
        let expected = "True s1._domainkey.example.com. relaxed/relaxed";
        assert_eq!(verified(data.clone(), record).await, expected, "message {index}");
        let header = String::from_utf8_lossy(&data).replacen("Message-ID: <", "Message-ID: <0", 1);
        assert!(verified(header.into_bytes(), record).await.starts_with("False"), "a changed header: message {index}");
        let body = [&data, b"P.S. send money\r\n".as_slice()].concat();
        assert!(verified(body, record).await.starts_with("False"), "a changed body: message {index}");
    }
}

#[tokio::test]
async fn a_signature_with_rsa_holds_for_others_and_for_nothing_but_this_message() {
    signed(RSA, RSA_RECORD).await;
}

#[tokio::test]
async fn a_signature_with_ed25519_holds_for_others_and_for_nothing_but_this_message() {
    let seed = [7; 32];
    let public = BASE64_STANDARD.encode(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), BASE64_STANDARD.encode(seed)).unwrap();
    signed(file.path().to_str().unwrap(), &format!("v=DKIM1; k=ed25519; p={public}")).await;
}
