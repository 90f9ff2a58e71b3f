//! The body of `POST /`, and the message that is made of it: plain text to one address.

use std::fmt;

use discovery::FieldError;
use lettre::message::Mailbox;
use serde::Deserialize;
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

use crate::{
    message::{
        MessageId, Subject,
        composer::{ComposeError, Composer},
        recipient::Recipient,
    },
    outbox::store::{
        entry::{IdempotencyKey, Kind, NewMessage},
        labels::Labels,
    },
    submission::ComposeConfig,
};

/// The longest text in bytes: 256 KiB, some fifty pages. A larger one is better sent as a link.
pub const TEXT_MAX_BYTES: usize = 256 * 1024;

/// The body of `POST /`.
#[derive(Deserialize, ToSchema)]
#[schema(as = Plain)]
#[serde(deny_unknown_fields)]
pub struct MailRequest {
    /// One mail address; see [`Recipient`].
    #[schema(max_length = 254)]
    pub address: String,
    /// The text; see [`TEXT_MAX_BYTES`].
    #[schema(max_length = 262_144)]
    pub message: String,
    /// One line; left out, the configured one.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub subject: Option<String>,
}

/// Neither addresses nor text may get into a log through `{:?}`.
impl fmt::Debug for MailRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailRequest").finish_non_exhaustive()
    }
}

/// Checks a request and writes the message.
///
/// # Errors
/// Names the field that is wrong and says what to change; or the spool cannot be used.
pub fn compose(
    request: &MailRequest,
    compose_config: &ComposeConfig,
    idempotency: Option<IdempotencyKey>,
    now: UnixMillis,
) -> Result<NewMessage, ComposeError> {
    let to = Recipient::parse(&request.address)?;
    let subject = request.subject.as_deref().map_or_else(|| Ok(compose_config.subject.clone()), Subject::parse)?;
    let from = &compose_config.from;
    let letter = Composer {
        from: from.mailbox().clone(),
        to: vec![Mailbox::new(None, to.address().clone())],
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: subject.clone(),
        text: Some(request.message.clone()),
        html: None,
        headers: Vec::new(),
        files: Vec::new(),
        date: now,
    };
    let message_id = MessageId::new(from);
    let content = letter
        .write(&message_id, compose_config.dkim.of(from.domain()), &compose_config.spool)
        .map_err(in_words_of_the_form)?;
    Ok(NewMessage {
        message_id,
        sender: from.address().to_string(),
        subject: subject.as_str().to_owned(),
        content,
        created: now,
        due: now,
        expires: now,
        recipients: vec![(Kind::To, to.address().to_string())],
        broadcast: None,
        labels: Labels::default(),
        idempotency,
        claim: None,
    })
}

/// The text is called `message` here.
fn in_words_of_the_form(error: ComposeError) -> ComposeError {
    match error {
        ComposeError::Field(error) if error.field == "text" => FieldError::new("message", error.reason).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    fn written(message: &str, subject: Option<&str>) -> Result<String, FieldError> {
        let args = ["mail", "--from", "Muster <muster@example.com>", "--subject", "default"];
        let compose_config = ComposeConfig::of(&Config::try_parse_from(args).unwrap()).unwrap();
        let request = MailRequest {
            address: "a@b.c".to_owned(),
            message: message.to_owned(),
            subject: subject.map(str::to_owned),
        };
        match compose(&request, &compose_config, None, UnixMillis::now()) {
            Ok(message) => {
                let bytes: Vec<u8> = message.content.chunks().flat_map(|chunk| chunk.unwrap().into_owned()).collect();
                Ok(String::from_utf8(bytes).unwrap())
            }
            Err(ComposeError::Field(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_message_has_these_headers_and_no_others() {
        let text = written("hello", None).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut names: Vec<&str> = head.split("\r\n").map(|line| line.split(':').next().unwrap()).collect();
        names.sort_unstable();
        let expected = [
            "Content-Transfer-Encoding",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
        ];
        assert_eq!(names, expected);
        assert!(head.contains("Content-Type: text/plain; charset=utf-8"), "{head}");
        assert!(head.contains("From: Muster <muster@example.com>"), "{head}");
        assert!(head.contains("Subject: default"), "{head}");
        assert_eq!(body, "hello\r\n");
    }

    #[test]
    fn html_stays_text() {
        let text = written("<script>alert(1)</script>", Some("<b>")).unwrap();
        assert!(text.contains("text/plain") && !text.contains("text/html"), "{text}");
    }

    #[test]
    fn a_subject_is_one_line_and_the_text_is_called_message() {
        for bad in ["", " ", "a\r\nBcc: b@c.d", "a\nb", "a\0", "a\tb", &"x".repeat(201)] {
            assert_eq!(written("hello", Some(bad)).unwrap_err().field, "subject", "{bad:?}");
        }
        assert_eq!(written("", None).unwrap_err().field, "message");
        assert!(written("hello", Some(&"ä".repeat(200))).unwrap().is_ascii());
        let text = written("hello", Some("=?utf-8?q?=0D=0ABcc:_b@c.d?=")).unwrap();
        assert!(text.contains("Subject: =?utf-8?q?=3D=3Futf=2D8=3Fq=3F=3D0D=3D0ABcc=3A=5F"), "{text}");
    }

    #[test]
    fn the_longest_text_of_line_ends_is_written() {
        let text = format!("x{}", "\n".repeat(TEXT_MAX_BYTES - 1));
        assert!(written(&text, None).unwrap().len() > TEXT_MAX_BYTES);
    }
}
