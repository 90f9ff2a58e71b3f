//! Everything that can be configured, with its default and its effect.

pub mod outbox_options;
pub mod smtp_options;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use discovery::deadlines;
use heartbeat::HeartbeatOptions;
use service_kit::{
    config::{CommonOptions, ServiceConfig},
    connections::ConnectionOptions,
    duration,
};

use crate::message::{Subject, sender::Sender};

use outbox_options::OutboxOptions;
use smtp_options::SmtpOptions;

const OPEN_RELAY: &str = "--smtp-url (MAIL_SMTP_URL) without --tokens-file (MAIL_TOKENS_FILE): every client that can connect, also through a \
                          gateway, would send mail in your name; give tokens, or --open (MAIL_OPEN=true) if that is meant";

/// Sends e-mail: over SMTP, or as files into a folder.
#[derive(Debug, Clone, Parser)]
#[command(name = "mail", version, about)]
pub struct Config {
    /// Where requests are served.
    #[arg(long, env = "MAIL_LISTEN", default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Whom messages come from: an address, or a name and an address. Their Message-IDs are made under its
    /// domain.
    #[arg(long, env = "MAIL_FROM", default_value = "Muster <muster@localhost>", value_name = "MAILBOX")]
    pub from: Sender,
    /// The subject of messages whose request names none.
    #[arg(long, env = "MAIL_SUBJECT", default_value = "A message from Muster", value_name = "TEXT")]
    pub subject: Subject,
    /// Without an SMTP server, each message becomes a file in this folder. It is created when it is missing.
    #[arg(long, env = "MAIL_DIR", default_value = "data/mail", value_name = "FOLDER")]
    pub dir: PathBuf,
    /// Which SMTP server.
    #[command(flatten)]
    pub smtp: SmtpOptions,
    /// The longest that handing over a message of POST / may take, from the connection to the server's final reply.
    /// Then the connection is closed.
    #[arg(
        long = "smtp-deadline",
        env = "MAIL_SMTP_DEADLINE",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = duration::parse_positive
    )]
    pub deadline: Duration,
    /// Messages being handed over at the same time, each over a connection of its own; 1 to 1000. Further ones wait.
    #[arg(
        long,
        env = "MAIL_SENDS_MAX",
        value_name = "NUMBER",
        default_value = "10",
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub sends_max: u16,
    /// How long a message waits for its turn before it is rejected with 503.
    #[arg(
        long,
        env = "MAIL_QUEUE_WAIT",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = duration::parse
    )]
    pub queue_wait: Duration,
    /// The outbox of `POST /v1/messages`.
    #[command(flatten)]
    pub outbox: OutboxOptions,
    /// The program that fills templates. Default: this one; for tests, whose own program cannot.
    #[arg(long = "template-program", env = "MAIL_TEMPLATE_PROGRAM", value_name = "FILE", hide = true)]
    pub template_program: Option<PathBuf>,
    /// A file of API tokens. Default: every client that can connect may send.
    #[arg(long = "tokens-file", env = "MAIL_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// Serve without tokens although messages go to an SMTP server: every client that can connect, also through a
    /// gateway, sends mail in your name. Not needed where messages become files.
    #[arg(long, env = "MAIL_OPEN")]
    pub open: bool,
    /// How this instance is announced.
    #[command(flatten)]
    pub heartbeat: HeartbeatOptions,
    /// How many connections.
    #[command(flatten)]
    pub connections: ConnectionOptions,
    /// What every service has.
    #[command(flatten)]
    pub common: CommonOptions,
}

impl Config {
    /// Whether everyone who can connect would send mail to the world, and it was not said that this is meant.
    fn is_open_relay(&self) -> bool {
        let has_server = matches!(self.smtp.server(), Ok(Some(_)));
        has_server && self.tokens_file.is_none() && !self.open
    }

    /// The longest that a request can be under way once its body has arrived: its turn, its delivery, and a moment.
    #[must_use]
    pub fn request_max(&self) -> Duration {
        deadlines::mail_answer(self.queue_wait, self.deadline)
    }
}

impl ServiceConfig for Config {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.smtp.server().err().unwrap_or_default();
        mistakes.extend(self.outbox.mistakes(&self.from));
        mistakes.extend(self.is_open_relay().then(|| OPEN_RELAY.to_owned()));
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_write_files_and_need_nothing() {
        let config = Config::try_parse_from(["mail"]).unwrap();
        assert_eq!(config.mistakes(), Vec::<String>::new());
        assert!(config.smtp.server().unwrap().is_none());
        assert_eq!(config.dir, PathBuf::from("data/mail"));
        assert_eq!(config.request_max(), Duration::from_secs(18));
    }

    #[test]
    fn an_smtp_server_needs_tokens_or_a_word_that_none_are_meant() {
        let mistakes = |args: &[&str]| Config::try_parse_from([&["mail"], args].concat()).unwrap().mistakes();
        let refused = mistakes(&["--smtp-url", "smtp://relay"]);
        assert!(refused.len() == 1 && refused[0].contains("--open"), "{refused:?}");
        assert_eq!(mistakes(&["--smtp-url", "smtp://relay", "--open"]), Vec::<String>::new());
        assert_eq!(mistakes(&["--smtp-url", "smtp://relay", "--tokens-file", "tokens"]), Vec::<String>::new());
    }

    #[test]
    fn no_secret_is_in_the_debug_output() {
        let args = ["mail", "--smtp-url", "smtp://me:hunter2@relay", "--smtp-user", "u", "--smtp-password", "hunter3"];
        let config = Config::try_parse_from(args).unwrap();
        let server = config.smtp.server().unwrap();
        let printed = format!("{config:?} {server:?}");
        assert!(!printed.contains("hunter"), "{printed}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (option, value) in [
            ("--from", "nobody"),
            ("--subject", "two\nlines"),
            ("--smtp-deadline", "0s"),
            ("--smtp-deadline", "15"),
            ("--sends-max", "0"),
            ("--smtp-tls", "yes"),
        ] {
            assert!(Config::try_parse_from(["mail", option, value]).is_err(), "{option} {value}");
        }
    }
}
