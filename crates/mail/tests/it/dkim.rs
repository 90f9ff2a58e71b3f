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
/// The same in PKCS #8.
const RSA_PKCS8: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dkim/rsa-pkcs8.pem");
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
        json!({ "to": "a@b.c", "subject": "List", "text": "x", "headers": {
                "List-Unsubscribe": "<https://shop.example/leave/7>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                "References": (0..40).map(|index| format!("<{index}@example.org>")).collect::<Vec<_>>().join(" "),
                "In-Reply-To": "<39@example.org>" } }),
        json!({ "to": "a@b.c", "subject": "Large", "text": "x",
                "attachments": [{ "filename": "a", "content": BASE64_STANDARD.encode(vec![b'.'; 1_000_000]) }] }),
    ]
}

async fn signed(key: &str, record: &str) {
    let sink = SmtpSink::start().await;
    let args = ["--from", "Post <post@example.com>", "--dkim-key-file", key, "--dkim-selector", "s1"];
    let mail = Mail::working(&sink, &args);
    for (index, message) in messages().into_iter().enumerate() {
        let taken = || sink.messages().iter().map(|message| message.recipients.len()).sum::<usize>();
        let before = taken();
        let answer = mail.submit(&message).await;
        let recipients = usize::try_from(answer.body["recipients"].as_u64().unwrap()).unwrap();
        wait_until("the message", SOON, || async { taken() == before + recipients }).await;
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

/// The private key of this seed, in the two forms of its file, and its record.
fn ed25519(seed: [u8; 32]) -> (String, String, String) {
    let public = BASE64_STANDARD.encode(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key());
    // RFC 8410, section 7: a version, the algorithm, the seed.
    let der = [hex::decode("302e020100300506032b657004220420").unwrap(), seed.to_vec()].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der));
    (BASE64_STANDARD.encode(seed), pem, format!("v=DKIM1; k=ed25519; p={public}"))
}

fn key_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn a_signature_with_ed25519_holds_for_others_and_for_nothing_but_this_message() {
    let (seed, _, record) = ed25519([7; 32]);
    signed(key_file(&seed).path().to_str().unwrap(), &record).await;
}

#[tokio::test]
async fn keys_in_pkcs8_sign_like_the_others() {
    let (_, pem, record) = ed25519([9; 32]);
    let file = key_file(&pem);
    for (key, record) in [(RSA_PKCS8, RSA_RECORD), (file.path().to_str().unwrap(), &record)] {
        let data = one(&["--from", "post@example.com", "--dkim-key-file", key], &messages()[0]).await;
        assert_eq!(verified(data, record).await, "True muster._domainkey.example.com. relaxed/relaxed", "{key}");
    }
}

#[tokio::test]
async fn each_domain_has_its_own_key() {
    let (_, pem, record) = ed25519([9; 32]);
    let file = key_file(&pem);
    let keys = format!("s7._domainkey.shop.example={},News.example={RSA}", file.path().display());
    let args = ["--from", "post@example.com", "--dkim-keys", &keys, "--senders", "@shop.example,@news.example"];
    for (from, record, signed) in [
        ("a@shop.example", record.as_str(), Some("True s7._domainkey.shop.example. relaxed/relaxed")),
        ("a@news.example", RSA_RECORD, Some("True muster._domainkey.News.example. relaxed/relaxed")),
        ("post@example.com", RSA_RECORD, None),
    ] {
        let data = one(&args, &json!({ "to": "a@b.c", "from": from, "text": "hello" })).await;
        let has_signature = data.starts_with(b"DKIM-Signature:");
        assert_eq!(has_signature, signed.is_some(), "{from}");
        if let Some(signed) = signed {
            assert_eq!(verified(data, record).await, signed);
        }
    }
}

#[tokio::test]
async fn what_programs_act_on_is_signed_and_what_readers_see_cannot_be_added_to() {
    let data = one(&["--from", "post@example.com", "--dkim-key-file", RSA], &messages()[5]).await;
    let text = String::from_utf8(data).unwrap();
    let unfolded = text.replace("\r\n ", "");
    let list = unfolded.split("h=").nth(1).unwrap().split(';').next().unwrap().replace(' ', "").to_ascii_lowercase();
    let times = |name: &str| list.split(':').filter(|listed| *listed == name).count();
    for name in [
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "content-type",
        "references",
        "in-reply-to",
        "list-unsubscribe",
        "list-unsubscribe-post",
    ] {
        assert_eq!(times(name), 2, "{name} in {list}");
    }
    assert_eq!((times("cc"), times("reply-to")), (1, 1), "what is not there may not be added: {list}");
    assert!(text.split("\r\n").all(|line| line.len() <= 78), "{text}");
    let holds = async |text: String| verified(text.into_bytes(), RSA_RECORD).await.starts_with("True");
    assert!(holds(text.clone()).await);
    for added in [
        "From: boss@bank.example",
        "Subject: Money",
        "Reply-To: x@y.z",
        "Cc: x@y.z",
        "To: x@y.z",
        "Content-Type: text/html",
        "List-Unsubscribe: <https://evil.example>",
    ] {
        assert!(!holds(format!("{added}\r\n{text}")).await, "{added}");
    }
    assert!(holds(format!("Received: from here by there\r\n{text}")).await, "what relays add does no harm");
    for (before, after) in [
        ("shop.example/leave/7", "evil.example/leave/7"),
        ("One-Click", "Two-Clicks"),
        ("text/plain", "text/html"),
        ("MIME-Version: 1.0", "MIME-Version: 1.1"),
        ("<17@", "<71@"),
    ] {
        assert!(!holds(text.replacen(before, after, 1)).await, "{before}");
    }
}

/// A message as it arrives.
async fn one(args: &[&str], message: &Value) -> Vec<u8> {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, args);
    assert_eq!(mail.submit(message).await.status, 202);
    wait_until("the message", SOON, || async { sink.messages().len() == 1 }).await;
    sink.messages().remove(0).data
}
