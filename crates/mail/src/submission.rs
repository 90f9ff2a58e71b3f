//! `POST /v1/messages`: what a request asks for, and how it becomes a message in the outbox.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use discovery::FieldError;
use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::Value;
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

use crate::{
    config::{Config, outbox_options::OutboxOptions},
    message::{
        MessageId, Subject,
        composer::{self, ATTACHMENTS_MAX, ComposeError, Composer, FileRequest},
        content::SpoolDir,
        dkim,
        openapi::{self, Parties},
        recipient_spec::{self, RecipientSpec},
        sender::Sender,
    },
    outbox::store::{
        entry::{IdempotencyKey, Kind, NewMessage},
        labels::Labels,
        openapi::{Metadata, Tag},
    },
    templates::{Filled, Filler},
};

/// The furthest that `send_at` may be: 30 days. Messages are not a calendar.
pub const SEND_AT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The body of `POST /v1/messages`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// At least one.
    #[serde(default)]
    #[schema(value_type = Parties, required)]
    pub to: Value,
    /// Cc recipients, in the same form.
    #[serde(default)]
    #[schema(value_type = Parties, required = false)]
    pub cc: Value,
    /// Bcc recipients, in the same form.
    #[serde(default)]
    #[schema(value_type = Parties, required = false)]
    pub bcc: Value,
    /// Where answers go.
    #[serde(default)]
    #[schema(value_type = Parties, required = false)]
    pub reply_to: Value,
    /// One of the allowed senders; left out, the configured one.
    #[serde(default)]
    pub from: Option<String>,
    /// One line; left out, the configured one.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub subject: Option<String>,
    /// Plain text; this, `html` or both.
    #[serde(default)]
    #[schema(max_length = 1_048_576)]
    pub text: Option<String>,
    /// The same for readers that show html. It is sent as it is.
    #[serde(default)]
    #[schema(max_length = 1_048_576)]
    pub html: Option<String>,
    /// Those that a request may set.
    #[serde(default)]
    #[schema(schema_with = openapi::headers, required = false)]
    pub headers: BTreeMap<String, String>,
    /// Files. Their contents are read apart from the rest; see [`crate::http::request_reader`].
    #[serde(skip)]
    pub attachments: Vec<FileRequest>,
    /// A template's name, instead of subject, text and html.
    #[serde(default)]
    pub template: Option<String>,
    /// What it is filled with.
    #[serde(default)]
    #[schema(required = false)]
    pub data: Value,
    /// Not before this moment, in UTC or with an offset; at most 30 days away.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub send_at: Option<String>,
    /// What kind of message it is; in nothing that is sent.
    #[serde(default)]
    #[schema(value_type = Option<Tag>)]
    pub tag: Option<String>,
    /// What else its sender knows it by; in nothing that is sent.
    #[serde(default)]
    #[schema(value_type = Metadata, required = false)]
    pub metadata: BTreeMap<String, String>,
}

/// Neither addresses nor text may get into a log.
impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submission").finish_non_exhaustive()
    }
}

/// What is configured about messages.
#[derive(Debug, Clone)]
pub struct ComposeConfig {
    /// Whom messages come from.
    pub from: Sender,
    /// For requests without a subject.
    pub subject: Subject,
    /// Who else they may come from, and how long they are tried.
    pub options: OutboxOptions,
    /// Sign.
    pub dkim: Arc<dkim::Keys>,
    /// Where large messages lie while they are written.
    pub spool: SpoolDir,
    /// Fills templates.
    pub filler: Arc<Filler>,
}

impl ComposeConfig {
    /// As it is configured.
    ///
    /// # Errors
    /// What [`Config`]'s check for mistakes would have said.
    pub fn of(config: &Config) -> Result<Self, String> {
        let from = config.from.clone();
        let subject = config.subject.clone();
        let options = config.outbox.clone();
        let dkim = options.dkim(&from).map_err(|mistakes| mistakes.join("; "))?;
        let filler = Arc::new(Filler::new(config.template_program.clone()));
        Ok(Self { from, subject, spool: options.spool()?, options, dkim: Arc::new(dkim), filler })
    }
}

/// The lists of a request.
#[derive(Debug)]
pub struct Lists {
    /// Each with what list they are on.
    pub specs: Vec<(Kind, RecipientSpec)>,
}

impl Submission {
    /// Everybody on the lists, in order.
    ///
    /// # Errors
    /// Names the entry and says what to change.
    pub fn lists(&self) -> Result<Lists, FieldError> {
        let mut specs = Vec::new();
        for (kind, value) in [(Kind::To, &self.to), (Kind::Cc, &self.cc), (Kind::Bcc, &self.bcc)] {
            specs.extend(recipient_spec::list(kind.as_str(), value)?.into_iter().map(|spec| (kind, spec)));
        }
        match specs.iter().any(|(kind, _)| *kind == Kind::To) {
            true => Ok(Lists { specs }),
            false => Err(FieldError::new("to", "it is missing or empty; name at least one recipient")),
        }
    }

    /// Whether a template may bring subject and text.
    ///
    /// # Errors
    /// The request has a text of its own as well.
    pub fn may_be_filled(&self) -> Result<(), FieldError> {
        let has = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.trim().is_empty());
        match has(&self.subject) || has(&self.text) || has(&self.html) {
            true => Err(FieldError::new("template", "it brings subject, text and html; leave them out")),
            false => Ok(()),
        }
    }

    /// Puts a filled template where the request named one.
    pub fn take(&mut self, filled: Filled) {
        (self.subject, self.text, self.html) = (Some(filled.subject), filled.text, filled.html);
    }

    /// About how many bytes the message has.
    pub(crate) fn weight(&self) -> u64 {
        let texts =
            [&self.text, &self.html].into_iter().flatten().map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX));
        texts.chain(self.attachments.iter().map(|file| file.content.len())).sum()
    }

    /// Writes the message to `recipients`, who are those of [`lists`](Self::lists) with their addresses.
    ///
    /// # Errors
    /// Names the field and says what to change; or the spool cannot be used.
    pub fn compose(
        self,
        recipients: Vec<(Kind, Mailbox)>,
        compose_config: &ComposeConfig,
        idempotency: Option<IdempotencyKey>,
        now: UnixMillis,
    ) -> Result<NewMessage, ComposeError> {
        let due = due(self.send_at.as_deref(), now)?;
        let labels = Labels::new(self.tag, self.metadata)?;
        let from = sender(self.from.as_deref(), compose_config)?;
        let subject = self.subject.as_deref().map_or_else(|| Ok(compose_config.subject.clone()), Subject::parse)?;
        let reply_to = reply_to(&self.reply_to)?;
        let text = not_blank(self.text);
        let html = not_blank(self.html);
        for (field, body) in [("text", &text), ("html", &html)] {
            if body.as_ref().is_some_and(|body| body.len() > composer::BODY_MAX_BYTES) {
                return Err(FieldError::new(field, "it is longer than 1 MiB; attach it, or send a link").into());
            }
        }
        if self.attachments.len() > ATTACHMENTS_MAX {
            return Err(FieldError::new("attachments", "there are more than 20; send an archive").into());
        }
        let files = self.attachments.into_iter().enumerate();
        let files = files.map(|(index, file)| composer::file(index, file)).collect::<Result<_, _>>()?;
        let listed = |wanted: Kind| {
            let of_kind = recipients.iter().filter(move |(kind, _)| *kind == wanted);
            of_kind.map(|(_, mailbox)| mailbox.clone()).collect::<Vec<_>>()
        };
        let letter = Composer {
            to: listed(Kind::To),
            cc: listed(Kind::Cc),
            reply_to,
            subject: subject.clone(),
            text,
            html,
            headers: composer::headers(self.headers.iter())?,
            files,
            date: due,
            from: from.mailbox().clone(),
        };
        let message_id = MessageId::new(&from);
        let content = letter.write(&message_id, compose_config.dkim.of(from.domain()), &compose_config.spool)?;
        Ok(NewMessage {
            message_id,
            sender: from.address().to_string(),
            subject: subject.as_str().to_owned(),
            content,
            created: now,
            due,
            expires: due + compose_config.options.retry_for,
            recipients: once_each(recipients),
            broadcast: None,
            labels,
            idempotency,
            claim: None,
        })
    }
}

/// A text of nothing but white space is none: programs fill in both kinds, and leave one empty.
fn not_blank(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

fn due(send_at: Option<&str>, now: UnixMillis) -> Result<UnixMillis, FieldError> {
    let Some(text) = send_at else { return Ok(now) };
    let at = text.parse::<UnixMillis>().map_err(|error| FieldError::new("send_at", error.to_string()))?;
    if at > now + SEND_AT_MAX {
        return Err(FieldError::new("send_at", "it is more than 30 days away; send it nearer to that day"));
    }
    Ok(at.max(now))
}

/// Whom a message comes from.
///
/// # Errors
/// This service may not send as them.
pub fn sender(from: Option<&str>, compose_config: &ComposeConfig) -> Result<Sender, FieldError> {
    let Some(text) = from else { return Ok(compose_config.from.clone()) };
    let mailbox = recipient_spec::mailbox("from", text)?;
    let address = mailbox.email.to_string();
    let is_ours = address.eq_ignore_ascii_case(compose_config.from.address().as_ref());
    if !is_ours && !compose_config.options.may_send_as(&address) {
        return Err(FieldError::new("from", "this service may not send as this address; see --senders"));
    }
    Ok(Sender::from_mailbox(mailbox))
}

fn reply_to(value: &Value) -> Result<Vec<Mailbox>, FieldError> {
    let mailbox = |spec| match spec {
        RecipientSpec::Mailbox(mailbox) => Ok(mailbox),
        RecipientSpec::User(_) => Err(FieldError::new("reply_to", "it names a user; write an address")),
    };
    recipient_spec::list("reply_to", value)?.into_iter().map(mailbox).collect()
}

/// A recipient on two lists gets the message once; the first list counts.
fn once_each(recipients: Vec<(Kind, Mailbox)>) -> Vec<(Kind, String)> {
    let mut seen = HashSet::new();
    let all = recipients.into_iter().map(|(kind, mailbox)| (kind, mailbox.email.to_string()));
    all.filter(|(_, address)| seen.insert(address.to_lowercase())).collect()
}
