//! Which SMTP server, as it is configured: a URL, and options that complete or override it.
//!
//! | URL | encryption | default port |
//! |---|---|---|
//! | `smtp://host` | none | 25 |
//! | `smtp://host?tls=opportunistic` | STARTTLS when it is offered | 587 |
//! | `smtp://host?tls=required` | STARTTLS, or nothing is sent | 587 |
//! | `smtps://host` | TLS from the first byte | 465 |
//!
//! `user:password@` before the host and `/name` after it (what to say in EHLO) work as in lettre's URLs; characters
//! with a meaning are percent-encoded. The URL can hold a password, so it is a [`Secret`], and no mistake in it repeats
//! it.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use service_kit::{Secret, duration};
use url::{Host, Url};

use crate::transport::smtp::{Login, ReturnPath, Server, Tls, TlsMode};

/// The part of the configuration that is about SMTP.
#[derive(Debug, Clone, clap::Args)]
pub struct SmtpOptions {
    /// The SMTP server, as in the module's table. Unset: every message becomes a file.
    #[arg(
        long = "smtp-url",
        env = "MAIL_SMTP_URL",
        value_name = "URL",
        hide_env_values = true,
        help = "The SMTP server: smtp://[USER:PASSWORD@]HOST[:PORT][?tls=required|opportunistic], or smtps:// for TLS from \
                the first byte. Unset: every message becomes a file in --dir"
    )]
    pub url: Option<Secret>,
    /// The user to log in as; instead of the one in the URL.
    #[arg(long = "smtp-user", env = "MAIL_SMTP_USER", value_name = "USER", hide_env_values = true)]
    pub user: Option<Secret>,
    /// The password to log in with.
    #[arg(long = "smtp-password", env = "MAIL_SMTP_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub password: Option<Secret>,
    /// A file that holds the password and nothing else; one line end after it is dropped.
    #[arg(long = "smtp-password-file", env = "MAIL_SMTP_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// When to encrypt; instead of what the URL says.
    #[arg(long = "smtp-tls", env = "MAIL_SMTP_TLS", value_enum, value_name = "MODE")]
    pub tls: Option<TlsMode>,
    /// Trust the authorities in this PEM file, and only them. Default: those of the system.
    #[arg(long = "smtp-ca-file", env = "MAIL_SMTP_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The name for EHLO; instead of the one in the URL. Default: this host's name. Some servers want one that the DNS
    /// knows.
    #[arg(long = "smtp-hello", env = "MAIL_SMTP_HELLO", value_name = "NAME")]
    pub hello: Option<String>,
    /// What MAIL FROM says, where bounces go; <> for no bounces. Default: the sender of each message.
    #[arg(long = "return-path", env = "MAIL_RETURN_PATH", value_name = "ADDRESS")]
    pub return_path: Option<ReturnPath>,
    /// Messages over one connection, then it is closed: servers limit that, many at 100. 1: a connection for each.
    #[arg(
        long = "smtp-messages-max",
        env = "MAIL_SMTP_MESSAGES_MAX",
        value_name = "NUMBER",
        default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub messages_max: u32,
    /// How long a connection waits for the next message before it is closed. Servers close idle ones after some
    /// minutes.
    #[arg(
        long = "smtp-idle",
        env = "MAIL_SMTP_IDLE",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration::parse
    )]
    pub idle: Duration,
    /// The longest that the server may take for one step of a message of the outbox: a reply, or 64 KiB of the text.
    /// RFC 5321 asks for five minutes, for two after DATA, for three for the text.
    #[arg(
        long = "smtp-step-max",
        env = "MAIL_SMTP_STEP_MAX",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = duration::parse_positive
    )]
    pub step_max: Duration,
    /// How often the server is asked whether it would take mail, when no message has shown it.
    #[arg(
        long = "smtp-check-interval",
        env = "MAIL_SMTP_CHECK_INTERVAL",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration::parse_positive
    )]
    pub check_interval: Duration,
}

/// What the URL alone says.
struct Parsed {
    host: String,
    port: Option<u16>,
    tls_mode: TlsMode,
    user: Option<String>,
    password: Option<String>,
    hello: Option<String>,
}

impl SmtpOptions {
    /// The server to use; `None` when no URL is set and messages become files.
    ///
    /// # Errors
    /// All mistakes, one sentence each, naming the options.
    pub fn server(&self) -> Result<Option<Server>, Vec<String>> {
        let Some(url) = &self.url else {
            let mistakes = self.set_without_url();
            return if mistakes.is_empty() { Ok(None) } else { Err(mistakes) };
        };
        let mut mistakes = Vec::new();
        let parsed = noting(&mut mistakes, parse(url.expose()).map_err(named("--smtp-url (MAIL_SMTP_URL)")));
        let login = noting(&mut mistakes, self.login(parsed.as_ref()));
        let tls_mode = self.tls.or(parsed.as_ref().map(|parsed| parsed.tls_mode)).unwrap_or(TlsMode::None);
        let host = parsed.as_ref().map_or("localhost", |parsed| parsed.host.as_str());
        let tls = noting(&mut mistakes, self.tls(host, tls_mode));
        let hello = self.hello.as_deref().map_or(Ok(None), hello).map_err(named("--smtp-hello (MAIL_SMTP_HELLO)"));
        let hello = noting(&mut mistakes, hello);
        let (Some(parsed), Some(login), Some(tls), Some(hello), []) = (parsed, login, tls, hello, mistakes.as_slice())
        else {
            return Err(mistakes);
        };
        let port = parsed.port.unwrap_or(match tls_mode {
            TlsMode::None => 25,
            TlsMode::Opportunistic | TlsMode::Starttls => 587,
            TlsMode::Tls => 465,
        });
        let hello = hello.or(parsed.hello);
        let return_path = self.return_path.clone();
        Ok(Some(Server { host: parsed.host, port, tls_mode, tls, login, hello, return_path }))
    }

    fn set_without_url(&self) -> Vec<String> {
        let set = [
            (self.user.is_some(), "--smtp-user (MAIL_SMTP_USER)"),
            (self.password.is_some(), "--smtp-password (MAIL_SMTP_PASSWORD)"),
            (self.password_file.is_some(), "--smtp-password-file (MAIL_SMTP_PASSWORD_FILE)"),
            (self.tls.is_some(), "--smtp-tls (MAIL_SMTP_TLS)"),
            (self.ca_file.is_some(), "--smtp-ca-file (MAIL_SMTP_CA_FILE)"),
            (self.hello.is_some(), "--smtp-hello (MAIL_SMTP_HELLO)"),
            (self.return_path.is_some(), "--return-path (MAIL_RETURN_PATH)"),
        ];
        let without = |name| format!("{name} needs --smtp-url (MAIL_SMTP_URL), or no mail goes over SMTP");
        set.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| without(name)).collect()
    }

    /// User and password, from the options first, then from the URL.
    fn login(&self, url: Option<&Parsed>) -> Result<Option<Login>, String> {
        let from_file = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                return Err("--smtp-password (MAIL_SMTP_PASSWORD) and --smtp-password-file \
                            (MAIL_SMTP_PASSWORD_FILE) are both set; take one of them out"
                    .to_owned());
            }
            (None, Some(file)) => Some(Secret::from_file(file).map_err(|error| {
                format!("--smtp-password-file (MAIL_SMTP_PASSWORD_FILE): cannot read {}: {error}", file.display())
            })?),
            (_, None) => None,
        };
        let in_url = |part: fn(&Parsed) -> &Option<String>| url.and_then(|url| part(url).clone()).map(Secret::from);
        let user = self.user.clone().or_else(|| in_url(|url| &url.user));
        let password = self.password.clone().or(from_file).or_else(|| in_url(|url| &url.password));
        match (user, password) {
            (Some(user), Some(password)) => Ok(Some(Login { user, password })),
            (None, None) => Ok(None),
            (Some(_), None) => Err("a user for SMTP is set but no password; set --smtp-password-file \
                                    (MAIL_SMTP_PASSWORD_FILE) or --smtp-password (MAIL_SMTP_PASSWORD)"
                .to_owned()),
            (None, Some(_)) => {
                Err("a password for SMTP is set but no user; set --smtp-user (MAIL_SMTP_USER)".to_owned())
            }
        }
    }

    fn tls(&self, host: &str, mode: TlsMode) -> Result<Option<Tls>, String> {
        let name = "--smtp-ca-file (MAIL_SMTP_CA_FILE)";
        match (&self.ca_file, mode) {
            (None, TlsMode::None) => Ok(None),
            (Some(_), TlsMode::None) => {
                Err(format!("{name} is set but nothing is encrypted; set --smtp-tls (MAIL_SMTP_TLS)"))
            }
            (None, _) => Tls::new(host, None).map(Some).map_err(|reason| format!("TLS cannot be set up: {reason}")),
            (Some(file), _) => Tls::new(host, Some(file)).map(Some).map_err(|reason| format!("{name}: {reason}")),
        }
    }
}

fn named(option: &'static str) -> impl Fn(String) -> String {
    move |reason| format!("{option}: {reason}")
}

fn noting<T>(mistakes: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// Reasons do not repeat the URL: it may hold a password.
fn parse(text: &str) -> Result<Parsed, String> {
    const EXAMPLE: &str = "write for example \"smtp://relay.example.com:587?tls=required\"";
    let url = Url::parse(text).map_err(|error| format!("{error}; {EXAMPLE}"))?;
    let tls_mode = match (url.scheme(), tls_parameter(&url)?.as_deref()) {
        ("smtps", None | Some("required")) => TlsMode::Tls,
        ("smtp", None) => TlsMode::None,
        ("smtp", Some("required")) => TlsMode::Starttls,
        ("smtp", Some("opportunistic")) => TlsMode::Opportunistic,
        ("smtp" | "smtps", Some(_)) => return Err("tls must be required or opportunistic".to_owned()),
        (_, _) => return Err(format!("the scheme must be smtp or smtps; {EXAMPLE}")),
    };
    // Only the schemes of the web are parsed into IP addresses by themselves; brackets are not part of an address.
    let host = match url.host() {
        Some(Host::Ipv6(ip)) => ip.to_string(),
        Some(host) if !host.to_string().is_empty() => host.to_string(),
        _ => return Err(format!("it has no host; {EXAMPLE}")),
    };
    if url.port() == Some(0) {
        return Err("port 0 is not a port".to_owned());
    }
    let decoded = |part: &str| {
        let text = percent_decode_str(part).decode_utf8().map_err(|_| "user or password is not UTF-8".to_owned())?;
        Ok::<_, String>(Some(text.into_owned()).filter(|text| !text.is_empty()))
    };
    let user = decoded(url.username())?;
    let password = decoded(url.password().unwrap_or_default())?;
    let hello = hello(url.path().trim_matches('/'))?;
    Ok(Parsed { host, port: url.port(), tls_mode, user, password, hello })
}

fn tls_parameter(url: &Url) -> Result<Option<String>, String> {
    let mut tls = None;
    for (name, value) in url.query_pairs() {
        if name != "tls" {
            return Err(format!("it has a parameter {name:?}; the only one is tls"));
        }
        tls = Some(value.into_owned());
    }
    Ok(tls)
}

fn hello(path: &str) -> Result<Option<String>, String> {
    let is_name = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    match path {
        "" => Ok(None),
        name if is_name && name.len() <= 253 => Ok(Some(name.to_owned())),
        _ => Err("the name for EHLO must be a host name; in the URL it follows the host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Sample {
        #[command(flatten)]
        smtp: SmtpOptions,
    }

    fn server(args: &[&str]) -> Result<Option<Server>, Vec<String>> {
        Sample::try_parse_from([&["sample"], args].concat()).unwrap().smtp.server()
    }

    fn of_url(url: &str) -> Server {
        server(&["--smtp-url", url]).unwrap().unwrap()
    }

    #[test]
    fn without_a_url_there_is_no_server() {
        assert!(server(&[]).unwrap().is_none());
    }

    #[test]
    fn a_url_says_host_port_and_encryption() {
        for (url, host, port, mode) in [
            ("smtp://relay", "relay", 25, TlsMode::None),
            ("smtp://relay:1025", "relay", 1025, TlsMode::None),
            ("smtp://relay?tls=required", "relay", 587, TlsMode::Starttls),
            ("smtp://relay:2525/?tls=opportunistic", "relay", 2525, TlsMode::Opportunistic),
            ("smtps://relay.example.com", "relay.example.com", 465, TlsMode::Tls),
            ("smtp://127.0.0.1", "127.0.0.1", 25, TlsMode::None),
            ("smtp://[::1]:25", "::1", 25, TlsMode::None),
        ] {
            let server = of_url(url);
            assert_eq!((server.host.as_str(), server.port, server.tls_mode), (host, port, mode), "{url}");
            assert_eq!(server.tls.is_some(), mode != TlsMode::None, "{url}");
        }
    }

    #[test]
    fn user_password_and_hello_come_from_the_url_and_options_override_it() {
        let url = "smtp://me%40example.com:p%3Aw@relay/client.example.com";
        let server_of_url = of_url(url);
        let login = server_of_url.login.unwrap();
        assert_eq!((login.user.expose(), login.password.expose()), ("me@example.com", "p:w"));
        assert_eq!(server_of_url.hello.as_deref(), Some("client.example.com"));
        let args = ["--smtp-url", url, "--smtp-user", "you", "--smtp-password", "x", "--smtp-tls", "starttls"];
        let overridden = server(&args).unwrap().unwrap();
        let login = overridden.login.unwrap();
        assert_eq!((login.user.expose(), login.password.expose()), ("you", "x"));
        assert_eq!((overridden.tls_mode, overridden.port), (TlsMode::Starttls, 587));
    }

    #[test]
    fn a_password_file_is_read_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let args = ["--smtp-url", "smtp://relay", "--smtp-user", "me", "--smtp-password-file", path];
        assert_eq!(server(&args).unwrap().unwrap().login.unwrap().password.expose(), "from file");
    }

    #[test]
    fn mistakes_name_the_option_and_never_repeat_a_password() {
        for (args, hint) in [
            (vec!["--smtp-url", "relay:25"], "scheme"),
            (vec!["--smtp-url", "http://u:hunter2@relay"], "scheme"),
            (vec!["--smtp-url", "smtp://u:hunter2@"], "host"),
            (vec!["--smtp-url", "smtp://u:hunter2@relay:99999"], "port"),
            (vec!["--smtp-url", "smtp://u:hunter2@relay:0"], "port"),
            (vec!["--smtp-url", "smtp://relay?tls=yes"], "required or opportunistic"),
            (vec!["--smtp-url", "smtp://relay?ssl=1"], "the only one is tls"),
            (vec!["--smtp-url", "smtp://relay/a%20b"], "EHLO"),
            (vec!["--smtp-url", "smtp://u@relay"], "no password"),
            (vec!["--smtp-url", "smtp://relay", "--smtp-password", "hunter2"], "no user"),
            (vec!["--smtp-user", "u"], "needs --smtp-url"),
            (vec!["--smtp-tls", "tls"], "needs --smtp-url"),
            (vec!["--smtp-url", "smtps://relay", "--smtp-ca-file", "/nowhere"], "cannot use /nowhere"),
            (vec!["--smtp-url", "smtps://relay", "--smtp-ca-file", "/dev/null"], "no certificate (PEM)"),
            (vec!["--smtp-url", "smtp://relay", "--smtp-ca-file", "/dev/null"], "nothing is encrypted"),
            (vec!["--smtp-url", "smtp://relay", "--smtp-hello", "a b"], "--smtp-hello"),
            (vec!["--return-path", "a@b.c"], "needs --smtp-url"),
            (vec!["--smtp-url", "smtp://relay", "--smtp-user", "u", "--smtp-password-file", "/nowhere"], "/nowhere"),
            (vec!["--smtp-url", "smtp://relay", "--smtp-password", "a", "--smtp-password-file", "b"], "both set"),
        ] {
            let mistakes = server(&args).expect_err(&args.join(" ")).join("\n");
            assert!(mistakes.contains(hint) && !mistakes.contains("hunter2"), "{args:?}: {mistakes}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let args = ["--smtp-url", "smtp://relay?tls=yes", "--smtp-user", "u", "--smtp-ca-file", "/nowhere"];
        assert_eq!(server(&args).unwrap_err().len(), 3);
    }
}
