//! How handing over a message can end.
//!
//! A server that takes the message takes the responsibility for it (RFC 5321, section 4.2.5). Everything else is one of
//! three [verdicts](Verdict), and the difference decides about another attempt:
//!
//! | verdict | meaning | another attempt |
//! |---|---|---|
//! | permanent | this message will never be taken: 5xx to the sender, the recipient or the text | is pointless |
//! | temporary | nothing was delivered, and the cause is not the message | is right, later |
//! | unknown | the final dot was sent and no reply came: it may or may not have been delivered | may be a duplicate |
//!
//! Nothing counts as delivered before the reply to the final dot, so whatever fails before it leaves no doubt. A 5xx
//! while the session is being opened (greeting, STARTTLS, AUTH) is temporary for the message, as Postfix treats it
//! (`smtp_skip_5xx_greeting`, `smtp_sasl_auth_soft_bounce`): it is about us, and goes away when an operator repairs the
//! configuration.

use std::{fmt, io, sync::Arc};

/// Where in a conversation something happened, in the order of RFC 5321, section 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From the connection to a session in which mail can be sent: greeting, EHLO, STARTTLS, AUTH.
    Session,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`.
    Data,
    /// The message itself, up to but without the final dot.
    Text,
    /// The final dot and the reply that decides.
    EndOfData,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "the start of the session",
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Text => "the text of the message",
            Self::EndOfData => "the end of the message",
        })
    }
}

/// What an SMTP server answered.
///
/// `Display` is the code alone, because the text often repeats the recipient's address: it goes to the caller, who
/// knows the address, and never into a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, for example 550.
    pub code: u16,
    /// What came after the code, all lines, made safe: no control characters, at most [`Reply::TEXT_MAX_CHARS`] long.
    text: String,
}

impl Reply {
    /// The most characters that are kept of a reply's text.
    pub const TEXT_MAX_CHARS: usize = 500;

    /// Keeps what is readable of `text`.
    #[must_use]
    pub fn new(code: u16, text: &str) -> Self {
        let readable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { code, text: readable.take(Self::TEXT_MAX_CHARS).collect() }
    }

    /// The status code of RFC 3463 at the beginning of the text, as `(5, 1, 1)`, where the server gives one (RFC 2034).
    /// It belongs to the reply's codes, not to its text.
    #[must_use]
    pub fn status(&self) -> Option<(u8, u16, u16)> {
        let mut numbers = self.text.split(' ').next()?.split('.');
        let status = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        numbers.next().is_none().then_some(status)
    }

    /// Code and text, for the caller.
    #[must_use]
    pub fn for_caller(&self) -> String {
        format!("{} {}", self.code, self.text).trim_end().to_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)
    }
}

/// How handing a message over ended for one of its recipients.
pub type Outcome = Result<Reply, DeliveryError>;

/// A message that was not handed over, or not for certain. No variant's `Display` holds an address or text of a
/// message.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeliveryError {
    /// The server will never take this message.
    #[error("the SMTP server refused the message with {reply} at {stage}")]
    Refused {
        /// Which command it refused.
        stage: Stage,
        /// A 5xx reply.
        reply: Reply,
    },
    /// The message is larger than the server takes (SIZE, RFC 1870); it was not sent.
    #[error("the message has {bytes} bytes, and the SMTP server takes at most {max_bytes}")]
    TooLarge {
        /// Of the message.
        bytes: u64,
        /// What the server says.
        max_bytes: u64,
    },
    /// The server asks for another attempt later.
    #[error("the SMTP server asks to try again later with {reply} at {stage}")]
    Deferred {
        /// Which command it put off.
        stage: Stage,
        /// A 4xx reply.
        reply: Reply,
    },
    /// The server refuses to talk to us: its greeting, or the password.
    #[error("the SMTP server refused the session with {reply}")]
    SessionRefused {
        /// A 5xx reply.
        reply: Reply,
    },
    /// No session: not reachable, no TLS, a certificate that is not trusted, no login that both sides know.
    #[error("no session with the SMTP server: {cause}")]
    Unreachable {
        /// lettre's words; its errors repeat their sources, so the chain ends here.
        cause: String,
    },
    /// The connection was lost before the final dot.
    #[error("the connection to the SMTP server was lost at {stage}: {cause}")]
    Lost {
        /// What was under way.
        stage: Stage,
        /// lettre's words.
        cause: String,
    },
    /// An answer that SMTP does not allow there.
    #[error("the SMTP server answered nonsense at {stage}: {cause}")]
    Nonsense {
        /// What was under way.
        stage: Stage,
        /// What was wrong with it.
        cause: String,
    },
    /// The deadline passed before the final dot.
    #[error("the SMTP server did not answer in time at {stage}")]
    TimedOut {
        /// What was under way.
        stage: Stage,
    },
    /// The final dot was sent, and then nothing certain came back.
    #[error("it is unknown whether the message was taken: {cause}")]
    Unknown {
        /// What came instead of a reply.
        cause: String,
    },
    /// The folder cannot take the message; no part of it is left there.
    #[error("the message could not be written to the folder")]
    Store {
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// The message cannot be read to its end where it is kept; the other side has not got it.
    #[error("the message could not be read: {cause}")]
    Unreadable {
        /// What is wrong there.
        cause: String,
    },
    /// As many messages as allowed are under way, and none ended in time.
    #[error("too many messages are being sent at the same time")]
    Busy,
}

/// What an error means for another attempt; see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Never again.
    Permanent,
    /// Again, later.
    Temporary,
    /// Perhaps delivered.
    Unknown,
}

impl DeliveryError {
    /// What this means for another attempt.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refused { .. } | Self::TooLarge { .. } => Verdict::Permanent,
            Self::Unknown { .. } => Verdict::Unknown,
            Self::Deferred { .. }
            | Self::SessionRefused { .. }
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Nonsense { .. }
            | Self::TimedOut { .. }
            | Self::Store { .. }
            | Self::Unreadable { .. }
            | Self::Busy => Verdict::Temporary,
        }
    }

    /// What an error with this [`code`](Self::code) means, where only its record is left.
    #[must_use]
    pub fn verdict_of(code: &str) -> Verdict {
        match code {
            "smtp_refused" | "smtp_too_large" => Verdict::Permanent,
            "outcome_unknown" => Verdict::Unknown,
            _ => Verdict::Temporary,
        }
    }

    /// A stable word for metrics, log lines and the `code` of our answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "smtp_refused",
            Self::TooLarge { .. } => "smtp_too_large",
            Self::Deferred { .. } => "smtp_deferred",
            Self::SessionRefused { .. } => "smtp_session_refused",
            Self::Unreachable { .. } => "smtp_unreachable",
            Self::Lost { .. } => "smtp_connection_lost",
            Self::Nonsense { .. } => "smtp_nonsense",
            Self::TimedOut { .. } => "smtp_timeout",
            Self::Unknown { .. } => "outcome_unknown",
            Self::Store { source } if is_full(source) => "storage_full",
            Self::Store { .. } => "storage_failed",
            Self::Unreadable { .. } => "content_unreadable",
            Self::Busy => "busy",
        }
    }

    /// Whether the other side had not even heard of the message: no session, or no room. Waiting helps, and every other
    /// message would meet the same.
    #[must_use]
    pub fn is_about_the_session(&self) -> bool {
        match self {
            Self::Deferred { stage, .. } | Self::TimedOut { stage } | Self::Nonsense { stage, .. } => {
                *stage == Stage::Session
            }
            Self::SessionRefused { .. } | Self::Unreachable { .. } | Self::Store { .. } | Self::Busy => true,
            Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Lost { .. }
            | Self::Unknown { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether the server says that the recipient's address is none, so that no message will ever arrive there: a
    /// permanent refusal at RCPT TO with a status code of RFC 3463 about the address (5.1.1 no such mailbox, 5.1.2 no
    /// such system, 5.1.3 bad syntax, 5.1.6 moved, 5.1.10 a domain that takes no mail (RFC 7505), 5.2.1 disabled).
    ///
    /// A bare 550 is not enough: servers also say it to a client that they do not let send at all ("relay not
    /// permitted", a block list), and then it would take *every* address away.
    #[must_use]
    pub fn is_hard_bounce(&self) -> bool {
        match self {
            Self::Refused { stage: Stage::Recipient, reply } => {
                matches!(reply.status(), Some((5, 1, 1 | 2 | 3 | 6 | 10) | (5, 2, 1)))
            }
            _ => false,
        }
    }

    /// Whether the server takes no more recipients in this transaction (RFC 5321, section 4.5.3.1.10: 452, and 552 from
    /// servers of before).
    #[must_use]
    pub fn is_too_many_recipients(&self) -> bool {
        match self {
            Self::Deferred { stage: Stage::Recipient, reply } => reply.code == 452,
            Self::Refused { stage: Stage::Recipient, reply } => reply.code == 552,
            _ => false,
        }
    }

    /// What the other side said, or ours where it said nothing: for the client that sent the message, never for a log.
    #[must_use]
    pub fn for_caller(&self) -> String {
        match self {
            Self::Refused { reply, .. } | Self::Deferred { reply, .. } | Self::SessionRefused { reply } => {
                reply.for_caller()
            }
            _ => service_kit::chain(self).to_string(),
        }
    }

    /// Whether whatever takes our messages is itself in trouble, as opposed to this one message. A reply about the
    /// message proves that the server works.
    #[must_use]
    pub fn is_about_the_transport(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Unreadable { .. } | Self::Busy => false,
            Self::Deferred { stage, .. } => *stage == Stage::Session,
            Self::SessionRefused { .. }
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Nonsense { .. }
            | Self::TimedOut { .. }
            | Self::Unknown { .. }
            | Self::Store { .. } => true,
        }
    }
}

/// No space left, or a quota that is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_readable_for_the_caller_and_only_a_number_in_a_log() {
        let reply = Reply::new(550, "5.1.1 <a@b.c> unknown\r\n\u{1b}[31mred");
        assert_eq!(reply.for_caller(), "550 5.1.1 <a@b.c> unknown   [31mred");
        assert_eq!(
            DeliveryError::Refused { stage: Stage::Recipient, reply }.to_string(),
            "the SMTP server refused the message with 550 at RCPT TO"
        );
        assert_eq!(Reply::new(550, &"x".repeat(9000)).for_caller().len(), 504);
    }

    #[test]
    fn only_a_refusal_for_good_of_the_address_itself_is_a_hard_bounce() {
        let refused = |stage, text: &str| DeliveryError::Refused { stage, reply: Reply::new(550, text) };
        for (text, expected) in [
            ("5.1.1 unknown", true),
            ("5.1.10 null MX", true),
            ("5.2.1 disabled", true),
            ("5.2.2 mailbox full", false),
            ("5.7.1 relay access denied", false),
            ("relay not permitted", false),
            ("", false),
            ("5.1 odd", false),
            ("5.1.1.1 odd", false),
        ] {
            assert_eq!(refused(Stage::Recipient, text).is_hard_bounce(), expected, "{text:?}");
        }
        assert!(!refused(Stage::EndOfData, "5.1.1 unknown").is_hard_bounce());
        let deferred = DeliveryError::Deferred { stage: Stage::Recipient, reply: Reply::new(450, "5.1.1 odd") };
        assert!(!deferred.is_hard_bounce());
    }

    #[test]
    fn a_full_disk_has_a_code_of_its_own() {
        let code = |kind: io::ErrorKind| DeliveryError::Store { source: Arc::new(kind.into()) }.code();
        assert_eq!(code(io::ErrorKind::StorageFull), "storage_full");
        assert_eq!(code(io::ErrorKind::PermissionDenied), "storage_failed");
    }
}
