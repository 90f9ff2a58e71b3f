//! The outbox, as it is configured.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use service_kit::{Secret, duration};
use url::Url;

use crate::{
    message::{
        content::SpoolDir,
        dkim::{Dkim, Keys},
        sender::Sender,
    },
    outbox::{
        store::DatabaseTarget,
        workers::{limiter::DomainLimits, retry_schedule::Schedule},
    },
    webhook::WebhookOptions,
};

/// The paths at which an `Idempotency-Key` is honoured.
const HONOURED_AT: &str = "/ /v1/messages /v1/batch /v1/broadcasts";

/// The part of the configuration that is about the outbox.
#[derive(Debug, Clone, clap::Args)]
pub struct OutboxOptions {
    /// Where accepted messages are kept until they are delivered: sqlite:FILE for one instance (or several on one
    /// host), or mysql://USER:PASSWORD@HOST:PORT/DATABASE (MySQL 8, MariaDB 10.6) for any number.
    #[arg(
        id = "outbox-url",
        long = "outbox-url",
        env = "MAIL_OUTBOX_URL",
        value_name = "URL",
        default_value = "sqlite:./data/outbox.db",
        hide_env_values = true
    )]
    pub url: Secret,
    /// The most bytes of a request to `POST /v1/messages`; base64 makes attachments larger by a third. The gateway lets
    /// 10 MiB through by default (--body-max-bytes).
    #[arg(
        long = "message-max-bytes",
        env = "MAIL_MESSAGE_MAX_BYTES",
        value_name = "NUMBER",
        default_value = "10485760",
        value_parser = clap::value_parser!(u32).range(65_536..=104_857_600)
    )]
    pub message_max_bytes: u32,
    /// A folder on a disk, in which messages of more than 512 KiB lie while they are accepted and handed over. It needs
    /// room for twice each of up to 16 that are accepted, and once each of --sends-max that are handed over. Default:
    /// the folder of a SQLite outbox; with MySQL, TMPDIR or /var/tmp.
    #[arg(long = "spool-dir", env = "MAIL_SPOOL_DIR", value_name = "FOLDER")]
    pub spool_dir: Option<PathBuf>,
    /// Who else messages of `POST /v1/messages` may come from: addresses, or @DOMAIN for all of a domain, separated by
    /// commas. The one of --from always may.
    #[arg(long = "senders", env = "MAIL_SENDERS", value_name = "LIST", value_delimiter = ',')]
    pub senders: Vec<String>,
    /// The wait after a first temporary failure. It doubles with each one.
    #[arg(
        long = "retry-first",
        env = "MAIL_RETRY_FIRST",
        value_name = "DURATION",
        default_value = "1m",
        value_parser = duration::parse_positive
    )]
    pub retry_first: Duration,
    /// The longest wait between two attempts.
    #[arg(
        long = "retry-max",
        env = "MAIL_RETRY_MAX",
        value_name = "DURATION",
        default_value = "1h",
        value_parser = duration::parse_positive
    )]
    pub retry_max: Duration,
    /// How long a message is tried before it is given up.
    #[arg(
        long = "retry-for",
        env = "MAIL_RETRY_FOR",
        value_name = "DURATION",
        default_value = "4d",
        value_parser = duration::parse_positive
    )]
    pub retry_for: Duration,
    /// How long the SMTP server may take for its final reply to a message of the outbox, after the final dot. Giving up
    /// early makes duplicates; RFC 5321 asks for ten minutes.
    #[arg(
        long = "smtp-patience",
        env = "MAIL_SMTP_PATIENCE",
        value_name = "DURATION",
        default_value = "10m",
        value_parser = duration::parse
    )]
    pub patience: Duration,
    /// Messages of the outbox to one domain at the same time.
    #[arg(
        long = "domain-sends-max",
        env = "MAIL_DOMAIN_SENDS_MAX",
        value_name = "NUMBER",
        default_value = "10",
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub domain_sends_max: u16,
    /// Messages of the outbox to one domain in a second, from this instance; 0.1 is one in ten seconds. Default: no
    /// limit.
    #[arg(long = "domain-rate", env = "MAIL_DOMAIN_RATE", value_name = "NUMBER", value_parser = parse_rate)]
    pub domain_rate: Option<f64>,
    /// How long settled messages are kept for looking at.
    #[arg(
        long = "keep",
        env = "MAIL_KEEP",
        value_name = "DURATION",
        default_value = "7d",
        value_parser = duration::parse_positive
    )]
    pub keep: Duration,
    /// The gateway, through which userlist is asked for recipients by name.
    #[arg(long = "gateway-url", env = "MAIL_GATEWAY_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub gateway: Url,
    /// A file with the API token for userlist, of the scopes userlist:read and userlist:write. Default: userlist asks
    /// for none.
    #[arg(long = "userlist-token-file", env = "MAIL_USERLIST_TOKEN_FILE", value_name = "FILE")]
    pub userlist_token_file: Option<PathBuf>,
    /// Where readers reach this service, for links to leave a list: the gateway's public address and /mail. Default:
    /// there are no broadcasts.
    #[arg(long = "public-url", env = "MAIL_PUBLIC_URL", value_name = "URL")]
    pub public: Option<Url>,
    /// Where events about messages are sent.
    #[command(flatten)]
    pub webhook: WebhookOptions,
    /// A private key to sign messages of the domain of --from with (DKIM): RSA or Ed25519 in PEM (PKCS #8, or PKCS #1
    /// for RSA), or the 32 bytes of Ed25519 in base64. Default: the SMTP server signs, or nothing does.
    #[arg(long = "dkim-key-file", env = "MAIL_DKIM_KEY_FILE", value_name = "FILE")]
    pub dkim_key_file: Option<PathBuf>,
    /// The name of the key in the DNS, SELECTOR._domainkey.DOMAIN.
    #[arg(long = "dkim-selector", env = "MAIL_DKIM_SELECTOR", value_name = "NAME", default_value = "muster")]
    pub dkim_selector: String,
    /// A key for each further domain that messages come from: DOMAIN=FILE, or SELECTOR._domainkey.DOMAIN=FILE where the
    /// key has another name in the DNS than --dkim-selector; separated by commas.
    #[arg(long = "dkim-keys", env = "MAIL_DKIM_KEYS", value_name = "LIST", value_delimiter = ',')]
    pub dkim_keys: Vec<String>,
}

impl OutboxOptions {
    /// The paths at which every instance of this outbox honours an `Idempotency-Key`, as they are announced; `None`
    /// when the outbox may be this instance's own, so that another one would not know the key.
    #[must_use]
    pub fn honoured_keys(&self) -> Option<&'static str> {
        self.place().is_ok_and(|place| place.is_shared()).then_some(HONOURED_AT)
    }

    /// Where the outbox is.
    ///
    /// # Errors
    /// Says what to write, naming the option, without the URL.
    pub fn place(&self) -> Result<DatabaseTarget, String> {
        DatabaseTarget::parse(self.url.expose()).map_err(|reason| format!("--outbox-url (MAIL_OUTBOX_URL): {reason}"))
    }

    /// Where large messages lie while they pass through.
    ///
    /// # Errors
    /// As [`place`](Self::place).
    pub fn spool(&self) -> Result<SpoolDir, String> {
        let place = self.place()?;
        let folder = self.spool_dir.as_deref().or_else(|| place.folder());
        Ok(folder.map_or_else(SpoolDir::of_the_system, |folder| SpoolDir::new(folder.to_owned())))
    }

    /// See the option.
    pub(crate) fn message_max_bytes(&self) -> usize {
        usize::try_from(self.message_max_bytes).unwrap_or(usize::MAX)
    }

    /// When to try again.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule { first: self.retry_first, max: self.retry_max.max(self.retry_first) }
    }

    /// What one domain gets.
    #[must_use]
    pub fn domain_limits(&self) -> DomainLimits {
        DomainLimits { concurrency: self.domain_sends_max.into(), per_second: self.domain_rate }
    }

    /// The keys of all domains.
    ///
    /// # Errors
    /// Says what to change, naming the option, one sentence for each key.
    pub fn dkim(&self, from: &Sender) -> Result<Keys, Vec<String>> {
        let own = self.dkim_key_file.iter().map(|file| {
            let key = Dkim::new(from.domain(), &self.dkim_selector, file);
            key.map_err(|reason| format!("--dkim-key-file (MAIL_DKIM_KEY_FILE): {reason}"))
        });
        let others = self.dkim_keys.iter().map(|entry| {
            dkim_key(entry, &self.dkim_selector).map_err(|reason| format!("--dkim-keys (MAIL_DKIM_KEYS): {reason}"))
        });
        let (keys, mistakes): (Vec<_>, Vec<_>) = own.chain(others).partition(Result::is_ok);
        match mistakes.is_empty() {
            true => Ok(Keys::new(keys.into_iter().flatten().collect())),
            false => Err(mistakes.into_iter().filter_map(Result::err).collect()),
        }
    }

    /// What is wrong, one sentence each.
    pub(crate) fn mistakes(&self, from: &Sender) -> Vec<String> {
        let mut mistakes: Vec<String> = self.place().err().into_iter().collect();
        mistakes.extend(self.dkim(from).err().unwrap_or_default());
        mistakes.extend(self.webhook.mistakes());
        for sender in &self.senders {
            if !sender.trim().starts_with('@') && sender.parse::<Sender>().is_err() {
                mistakes.push(format!("--senders (MAIL_SENDERS): {sender:?} is neither an address nor @DOMAIN"));
            }
        }
        mistakes
    }

    /// Whether messages may come from `address`.
    #[must_use]
    pub fn may_send_as(&self, address: &str) -> bool {
        let address = address.to_ascii_lowercase();
        let domain = address.rsplit('@').next().unwrap_or_default();
        self.senders.iter().map(|sender| sender.trim().to_ascii_lowercase()).any(|sender| {
            match sender.strip_prefix('@') {
                Some(allowed) => allowed == domain,
                None => sender == address,
            }
        })
    }
}

/// Reads `DOMAIN=FILE` or `SELECTOR._domainkey.DOMAIN=FILE`.
fn dkim_key(entry: &str, selector: &str) -> Result<Dkim, String> {
    let Some((name, file)) = entry.trim().split_once('=').filter(|(name, file)| !name.is_empty() && !file.is_empty())
    else {
        return Err(format!("{entry:?} is not DOMAIN=FILE or SELECTOR._domainkey.DOMAIN=FILE"));
    };
    let (selector, domain) = name.split_once("._domainkey.").unwrap_or((selector, name));
    Dkim::new(domain, selector, Path::new(file))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("it must be a number greater than zero; leave it out for no limit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    fn options(args: &[&str]) -> OutboxOptions {
        Config::try_parse_from([&["mail"], args].concat()).unwrap().outbox
    }

    #[test]
    fn senders_are_addresses_or_whole_domains() {
        let options = options(&["--senders", "Shop@example.com,@news.example.com"]);
        assert!(options.may_send_as("shop@example.com") && options.may_send_as("anybody@news.example.com"));
        assert!(!options.may_send_as("boss@example.com") && !options.may_send_as("a@evil-news.example.com"));
    }

    #[test]
    fn mistakes_name_the_option_and_show_no_password() {
        let options =
            options(&["--outbox-url", "mysql://u:hunter2@h", "--senders", "nobody", "--dkim-key-file", "/no"]);
        let mistakes = options.mistakes(&"a@b.c".parse().unwrap()).join("\n");
        assert!(["MAIL_OUTBOX_URL", "MAIL_SENDERS", "MAIL_DKIM_KEY_FILE"].iter().all(|name| mistakes.contains(name)));
        assert!(!mistakes.contains("hunter2") && !format!("{options:?}").contains("hunter2"), "{mistakes}");
    }

    #[test]
    fn only_an_outbox_that_all_share_promises_to_know_a_key() {
        assert_eq!(options(&["--outbox-url", "mysql://u@h/mail"]).honoured_keys(), Some(HONOURED_AT));
        for own in ["sqlite:outbox.db", "nonsense"] {
            assert_eq!(options(&["--outbox-url", own]).honoured_keys(), None, "{own}");
        }
    }
}
