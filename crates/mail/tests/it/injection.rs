//! Whatever a request holds: one recipient, our headers, its text, and nothing else at the SMTP server.

use std::{ops::RangeInclusive, sync::OnceLock};

use mail_parser::{HeaderName, MessageParser};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
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
}
