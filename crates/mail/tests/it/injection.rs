//! Whatever a request holds: one recipient, our headers, its text, and nothing else at the SMTP server.

use std::{ops::RangeInclusive, sync::OnceLock};

use clap::Parser as _;
use mail::{
    config::Config,
    http::request_reader,
    message::{composer::ComposeError, content::SpoolDir, recipient_spec::RecipientSpec},
    submission::ComposeConfig,
};
use mail_parser::{HeaderName, MessageParser};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use service_kit::time::UnixMillis;
use testkit::smtp_sink::{Received, SmtpSink};
use tokio::runtime::Runtime;

use crate::service::Mail;

/// The headers of every message, sorted.
const OURS: [&str; 8] =
    ["Content-Transfer-Encoding", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"];

/// Text made of what has broken mail programs before, and of anything else.
fn hostile(pieces: RangeInclusive<usize>) -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "\r\n\r\n",
        "\r\n.\r\n",
        "\n.\n",
        "\r.\r",
        ".",
        "..",
        "Bcc: x@y.z",
        "To: x@y.z",
        ":",
        " ",
        "\t",
        "\0",
        "<x@y.z>",
        "<",
        ">",
        "\"",
        "\\",
        ",",
        ";",
        "(",
        ")",
        "@",
        "=?utf-8?q?=0d=0aBcc:_x@y.z?=",
        "=?",
        "?=",
        "=0D=0A",
        "<b>html</b>",
        "--boundary",
        "MAIL FROM:<x@y.z>",
        "QUIT",
        "ä",
        "日本",
        "\u{1f4ec}",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "\u{feff}",
        "e\u{301}",
        "a",
        "x@y.z",
        "hello world",
        "%0d%0a",
        "\u{10ffff}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    let piece = prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    vec(piece, pieces).prop_map(|pieces| pieces.concat())
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9.-]{1,40}",
        1 => "[a-z]{1,8}@[a-z]{1,8}\\.(com|рф|例え)",
        2 => (hostile(0..=3), hostile(0..=3)).prop_map(|(local, domain)| format!("{local}@{domain}")),
        1 => hostile(0..=4),
    ]
}

struct Fixture {
    runtime: Runtime,
    sink: SmtpSink,
    mail: Mail,
}

/// One server for all cases; they run one after the other.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let sink = runtime.block_on(SmtpSink::start());
        let _inside = runtime.enter();
        let mail = Mail::over(&sink, &[]);
        Fixture { runtime, sink, mail }
    })
}

fn check_received(received: &Received, address: &str, message: &str, subject: Option<&str>) {
    // Only the domain may be written differently.
    let [recipient] = &received.recipients[..] else { panic!("{:?}", received.recipients) };
    let (local, domain) = recipient.rsplit_once('@').unwrap();
    assert!(recipient.is_ascii() && !domain.is_empty() && address.starts_with(&format!("{local}@")), "{recipient}");
    assert_eq!(received.sender, "muster@localhost");

    let mut names: Vec<String> = received.headers().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, OURS);

    // An independent parser's opinion.
    let parsed = MessageParser::default().parse(&received.data).unwrap();
    assert_eq!((parsed.parts.len(), parsed.html_body_count(), parsed.attachment_count()), (1, 1, 0));
    // Readers differ in how many spaces they show around an encoded word.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(parsed.subject().map(words), Some(words(subject.unwrap_or("A message from Muster"))));
    let to = parsed.header(HeaderName::To).and_then(|to| to.as_address()).unwrap();
    assert_eq!(to.iter().map(|to| to.address().unwrap()).collect::<Vec<_>>(), [recipient]);
    let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n").trim_end_matches('\n').to_owned();
    assert_eq!(lines(&parsed.body_text(0).unwrap()), lines(message));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_adds_a_header_a_recipient_or_a_part(
        address in address(),
        message in hostile(0..=12),
        subject in prop::option::of(hostile(0..=6)),
    ) {
        let Fixture { runtime, sink, mail } = fixture();
        let before = sink.messages().len();
        let request = json!({ "address": address, "message": message, "subject": subject });
        let answer = runtime.block_on(mail.post(&request));
        let messages = sink.messages();
        prop_assert_eq!(sink.violations(), Vec::<String>::new());
        match answer.status {
            200 => {
                prop_assert_eq!(messages.len(), before + 1);
                check_received(messages.last().unwrap(), &address, &message, subject.as_deref());
            }
            status => {
                prop_assert_eq!((status, answer.code()), (422, "invalid_field"), "{:?}", answer);
                prop_assert!(["address", "message", "subject"].contains(&answer.field()));
                prop_assert_eq!(messages.len(), before, "a refused request must send nothing");
            }
        }
    }

    #[test]
    fn every_text_without_control_characters_arrives(message in "[^\\p{Cc}]{1,200}", subject in "[^\\p{Cc}]{1,80}") {
        prop_assume!(!message.trim().is_empty() && !subject.trim().is_empty());
        let Fixture { runtime, sink, mail } = fixture();
        let request = json!({ "address": "a@b.c", "message": message, "subject": subject });
        let answer = runtime.block_on(mail.post(&request));
        prop_assert_eq!(answer.status, 200, "{:?}", answer);
        check_received(sink.messages().last().unwrap(), "a@b.c", &message, Some(&subject));
    }

    #[test]
    fn no_field_of_a_full_message_adds_a_header_a_recipient_or_a_part(
        name in hostile(0..=4),
        address in address(),
        reply_to in prop::option::of(hostile(0..=4)),
        subject in hostile(0..=6),
        text in hostile(0..=8),
        html in prop::option::of(hostile(0..=8)),
        header in (prop_oneof![2 => Just("X-Tag".to_owned()), 1 => hostile(1..=3)], hostile(0..=4)),
        filename in prop::option::of(hostile(0..=4)),
    ) {
        let Fixture { runtime, mail, .. } = fixture();
        let attachments: Vec<_> =
            filename.iter().map(|name| json!({ "filename": name, "content": "aGVsbG8=" })).collect();
        let request = json!({
            "to": { "email": address, "name": name }, "reply_to": reply_to, "subject": subject, "text": text, "html": html,
            "headers": { header.0.clone(): header.1 }, "attachments": attachments,
        });
        match composed(&request) {
            Ok((recipients, data)) => check_composed(&recipients, &data, &Wanted {
                text: &text,
                header: &header.0,
                // One of them that is blank is left out.
                parts: [Some(&text), html.as_ref()].into_iter().flatten().filter(|body| !body.trim().is_empty()).count()
                    + attachments.len(),
                attachments: attachments.len(),
                reply_to: reply_to.is_some(),
            }),
            Err(field) => {
                // What refuses here refuses over HTTP, under the same name.
                let answer = runtime.block_on(mail.submit(&request));
                prop_assert_eq!((answer.status, answer.field()), (422, field.as_str()), "{:?}", answer);
            }
        }
    }
}

/// What a full message may hold.
struct Wanted<'a> {
    text: &'a str,
    header: &'a str,
    parts: usize,
    attachments: usize,
    reply_to: bool,
}

/// What would be stored for a request: recipients and bytes; or the field that is refused.
fn composed(request: &serde_json::Value) -> Result<(Vec<String>, Vec<u8>), String> {
    let spool = SpoolDir::of_the_system();
    let submission = request_reader::read(request.to_string().as_bytes(), &spool).unwrap().submission;
    let lists = submission.lists().map_err(|error| error.field)?;
    let mailbox = |(kind, spec)| match spec {
        RecipientSpec::Mailbox(mailbox) => (kind, mailbox),
        RecipientSpec::User(_) => unreachable!("none is asked for"),
    };
    let recipients = lists.specs.into_iter().map(mailbox).collect();
    let compose_config =
        ComposeConfig { spool, ..ComposeConfig::of(&Config::try_parse_from(["mail"]).unwrap()).unwrap() };
    let message =
        submission.compose(recipients, &compose_config, None, UnixMillis::now()).map_err(|error| match error {
            ComposeError::Field(error) => error.field,
            other => panic!("{other}"),
        })?;
    let content = message.content.in_memory().expect("it is small").to_vec();
    Ok((message.recipients.into_iter().map(|(_, address)| address).collect(), content))
}

fn check_composed(recipients: &[String], data: &[u8], wanted: &Wanted<'_>) {
    assert_eq!(recipients.len(), 1);
    assert!(data.is_ascii(), "no server has to offer 8BITMIME");
    let text = std::str::from_utf8(data).unwrap();
    assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0'])), "{text}");
    let parsed = MessageParser::default().parse(data).unwrap();
    let names: Vec<String> = parsed.headers().iter().map(|header| header.name().to_ascii_lowercase()).collect();
    let mut allowed: Vec<String> = OURS.iter().map(|name| name.to_ascii_lowercase()).collect();
    allowed.push(wanted.header.to_ascii_lowercase());
    if wanted.reply_to {
        allowed.push("reply-to".to_owned());
    }
    for name in &names {
        assert!(allowed.contains(name), "{name} in\n{text}");
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} in\n{text}");
    }
    let to: Vec<_> = parsed.to().unwrap().iter().filter_map(|to| to.address()).collect();
    assert_eq!(to, recipients, "{text}");
    assert_eq!(parsed.attachment_count(), wanted.attachments, "{text}");
    let leaves = parsed.parts.iter().filter(|part| !part.is_multipart()).count();
    assert_eq!(leaves, wanted.parts, "{text}");
    if !wanted.text.trim().is_empty() {
        let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n").trim_end_matches('\n').to_owned();
        assert_eq!(lines(&parsed.body_text(0).unwrap()), lines(wanted.text));
    }
}
