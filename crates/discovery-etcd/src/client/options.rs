//! Where etcd is, and how to prove who we are.

use std::{fs, path::PathBuf, time::Duration};

use discovery::deadlines;
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use service_kit::{Secret, duration};
use tonic::transport::Endpoint;

/// How to reach etcd. Flatten it into a service's configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct EtcdOptions {
    /// etcd members, `http://host:port` or `https://host:port`, separated by commas. Name all of them.
    #[arg(long, env = "ETCD_ENDPOINTS", value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub etcd_endpoints: Vec<String>,
    /// etcd user; without one, etcd must not ask for one.
    #[arg(long, env = "ETCD_USER")]
    pub etcd_user: Option<String>,
    /// Password of the etcd user. Others on this machine can read it in the process list: prefer the file.
    #[arg(long, env = "ETCD_PASSWORD", hide_env_values = true)]
    pub etcd_password: Option<Secret>,
    /// File with the password of the etcd user. Read again when etcd refuses it.
    #[arg(long, env = "ETCD_PASSWORD_FILE")]
    pub etcd_password_file: Option<PathBuf>,
    /// Certificate authority (PEM) that signed etcd's certificates; needed for https endpoints. This file and the next
    /// two are read again when a connection is refused.
    #[arg(long, env = "ETCD_CA_FILE")]
    pub etcd_ca_file: Option<PathBuf>,
    /// Client certificate (PEM), if etcd asks for one.
    #[arg(long, env = "ETCD_CERT_FILE")]
    pub etcd_cert_file: Option<PathBuf>,
    /// Private key (PEM) of the client certificate.
    #[arg(long, env = "ETCD_KEY_FILE")]
    pub etcd_key_file: Option<PathBuf>,
    /// How long one attempt on one etcd member may take; two thirds of it for a connection.
    #[arg(long, env = "ETCD_TIMEOUT", default_value = "450ms", value_parser = duration::parse_positive)]
    pub etcd_timeout: Duration,
    /// How long a whole call may take, over all members; at a registry all calls of one request together. Heartbeats
    /// wait for 1 s, so more than 800ms makes them give up before they are told why.
    #[arg(long, env = "ETCD_DEADLINE", default_value = "800ms", value_parser = duration::parse_positive)]
    pub etcd_deadline: Duration,
}

/// The etcd options do not fit together, or a file that they name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.join("; "))]
pub struct ConfigError {
    /// Every mistake, one sentence each, naming the option.
    pub mistakes: Vec<String>,
}

/// [`EtcdOptions`], checked, with their files read.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) user: Option<(String, Secret)>,
    pub(crate) connect: ConnectOptions,
    pub(crate) attempt: Duration,
    pub(crate) deadline: Duration,
}

// === impl EtcdOptions ===

impl Default for EtcdOptions {
    /// The defaults of the flags: one member on this machine, without user and TLS.
    fn default() -> Self {
        Self {
            etcd_endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            etcd_user: None,
            etcd_password: None,
            etcd_password_file: None,
            etcd_ca_file: None,
            etcd_cert_file: None,
            etcd_key_file: None,
            etcd_timeout: deadlines::ETCD_TIMEOUT,
            etcd_deadline: deadlines::ETCD_DEADLINE,
        }
    }
}

impl EtcdOptions {
    /// The defaults, with these endpoints.
    pub fn at(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { etcd_endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Everything that is wrong, one sentence each, naming the option; empty when [`Etcd::new`](crate::Etcd::new) will
    /// accept this. Reads the files that are named, and nothing else.
    pub fn mistakes(&self) -> Vec<String> {
        self.settings().err().map(|error| error.mistakes).unwrap_or_default()
    }

    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let mut mistakes = Vec::new();
        let endpoints = self.endpoints(&mut mistakes);
        let user = self.user(&mut mistakes);
        let tls = self.tls(&endpoints, &mut mistakes);
        if self.etcd_deadline < self.etcd_timeout {
            mistakes.push("--etcd-deadline must not be shorter than --etcd-timeout, which is only a part of it".into());
        }
        if !mistakes.is_empty() {
            return Err(ConfigError { mistakes });
        }
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(deadlines::etcd_connect(self.etcd_timeout))
            .with_require_leader(true)
            // Finds connections whose other end vanished without a word. etcd answers pings more often than every 5 s
            // (--grpc-keepalive-min-time), or on a connection without any stream, with a GOAWAY.
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(2))
            .with_keep_alive_while_idle(false);
        if let Some(tls) = tls {
            connect = connect.with_tls(tls);
        }
        Ok(Settings { endpoints, user, connect, attempt: self.etcd_timeout, deadline: self.etcd_deadline })
    }

    fn endpoints(&self, mistakes: &mut Vec<String>) -> Vec<String> {
        let with_tls = self.etcd_ca_file.is_some();
        let mut endpoints = Vec::new();
        for given in self.etcd_endpoints.iter().map(|given| given.trim()).filter(|given| !given.is_empty()) {
            let (scheme, authority) =
                given.split_once("://").unwrap_or((if with_tls { "https" } else { "http" }, given));
            let authority = authority.strip_suffix('/').unwrap_or(authority);
            if !matches!(scheme, "http" | "https") {
                mistakes.push(format!("--etcd-endpoints: {given:?} must start with http:// or https://"));
            } else if let Err(error) = authority.parse::<discovery::Address>() {
                mistakes.push(format!("--etcd-endpoints: {}", error.reason));
            } else if scheme == "http" && with_tls {
                mistakes
                    .push(format!("--etcd-endpoints: {given:?} must start with https:// when there is --etcd-ca-file"));
            } else {
                let endpoint = format!("{scheme}://{authority}");
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        if endpoints.is_empty() && mistakes.is_empty() {
            mistakes.push("--etcd-endpoints is empty; give at least one, as http://host:2379".into());
        }
        endpoints
    }

    fn user(&self, mistakes: &mut Vec<String>) -> Option<(String, Secret)> {
        let password = match (&self.etcd_password, &self.etcd_password_file) {
            (Some(_), Some(_)) => {
                mistakes.push("give --etcd-password or --etcd-password-file, not both".into());
                None
            }
            (Some(password), None) => Some(password.clone()),
            (None, Some(file)) => match Secret::from_file(file) {
                Ok(password) => Some(password),
                Err(error) => {
                    mistakes.push(format!("--etcd-password-file {}: {error}", file.display()));
                    None
                }
            },
            (None, None) => None,
        };
        match (&self.etcd_user, password) {
            (Some(user), Some(password)) => Some((user.clone(), password)),
            (Some(_), None) if mistakes.is_empty() => {
                mistakes.push("--etcd-user needs --etcd-password-file or --etcd-password".into());
                None
            }
            (None, Some(_)) => {
                mistakes.push("an etcd password without --etcd-user; give the user, too".into());
                None
            }
            _ => None,
        }
    }

    fn tls(&self, endpoints: &[String], mistakes: &mut Vec<String>) -> Option<TlsOptions> {
        let mut read = |flag: &str, file: &Option<PathBuf>| {
            let file = file.as_ref()?;
            let read = fs::read(file).map_err(|error| error.to_string());
            let pem = read.and_then(|bytes| match bytes.windows(10).any(|window| window == b"-----BEGIN") {
                true => Ok(bytes),
                false => Err("is not a PEM file".to_owned()),
            });
            pem.map_err(|error| mistakes.push(format!("{flag} {}: {error}", file.display()))).ok()
        };
        let ca = read("--etcd-ca-file", &self.etcd_ca_file);
        let certificate = read("--etcd-cert-file", &self.etcd_cert_file);
        let key = read("--etcd-key-file", &self.etcd_key_file);
        if self.etcd_cert_file.is_some() != self.etcd_key_file.is_some() {
            mistakes.push("--etcd-cert-file and --etcd-key-file go together".into());
        }
        if self.etcd_cert_file.is_some() && self.etcd_ca_file.is_none() {
            mistakes.push("--etcd-cert-file needs --etcd-ca-file, too".into());
        } else if endpoints.iter().any(|endpoint| endpoint.starts_with("https")) && self.etcd_ca_file.is_none() {
            mistakes.push("https endpoints need --etcd-ca-file, the authority that signed etcd's certificates".into());
        }
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca?));
        check_tls("--etcd-ca-file", &tls, mistakes);
        if let (Some(certificate), Some(key)) = (certificate, key) {
            tls = tls.identity(Identity::from_pem(certificate, key));
            check_tls("--etcd-cert-file and --etcd-key-file", &tls, mistakes);
        }
        Some(tls)
    }
}

/// Whether a connection could be made with this, found out without making one.
fn check_tls(flag: &str, tls: &TlsOptions, mistakes: &mut Vec<String>) {
    if let Err(error) = Endpoint::from_static("https://localhost").tls_config(tls.clone()) {
        mistakes.push(format!("{flag} cannot be used: {}", service_kit::chain(&error)));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Service {
        #[command(flatten)]
        etcd: EtcdOptions,
    }

    fn mistakes(options: &EtcdOptions) -> String {
        options.mistakes().join("\n")
    }

    #[test]
    fn the_flags_have_the_documented_defaults() {
        let parsed = Service::parse_from(["service"]).etcd;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", EtcdOptions::default()));
        assert!(parsed.mistakes().is_empty());
    }

    #[test]
    fn the_password_is_never_printed() {
        let parsed = Service::parse_from(["service", "--etcd-user", "root", "--etcd-password", "hunter2"]).etcd;
        assert!(!format!("{parsed:?}").contains("hunter2"));
    }

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        let options = EtcdOptions::at(["http://a:2379/", " b:2379", "", "http://a:2379"]);
        assert_eq!(options.settings().ok().unwrap().endpoints, ["http://a:2379", "http://b:2379"]);
    }

    #[test]
    fn every_mistake_is_named_with_its_option() {
        let said = mistakes(&EtcdOptions {
            etcd_endpoints: vec!["ftp://a:1".into(), "a".into(), "https://a:1".into()],
            etcd_user: Some("root".into()),
            etcd_password_file: Some("/nowhere/at/all".into()),
            etcd_key_file: Some("/nowhere/key".into()),
            etcd_deadline: Duration::from_millis(1),
            ..EtcdOptions::default()
        });
        for part in [
            "ftp://a:1",
            "\"a\" has no port",
            "/nowhere/at/all",
            "/nowhere/key",
            "go together",
            "https endpoints",
            "--etcd-deadline",
        ] {
            assert!(said.contains(part), "{part} in:\n{said}");
        }
        assert!(mistakes(&EtcdOptions::at([""])).contains("is empty"));
    }

    #[test]
    fn half_a_login_is_a_mistake() {
        let user = EtcdOptions { etcd_user: Some("root".into()), ..EtcdOptions::default() };
        assert!(mistakes(&user).contains("--etcd-user needs"));
        let password = EtcdOptions { etcd_password: Some("x".parse().unwrap()), ..EtcdOptions::default() };
        assert!(mistakes(&password).contains("without --etcd-user"));
    }
}
