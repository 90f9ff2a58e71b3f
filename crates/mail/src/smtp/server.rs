//! Which server, and how a session with it is opened.

use std::{fmt, io, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, TlsParameters},
    extension::ClientId,
};
use service_kit::Secret;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::{step::within, wire::Wire};
use crate::{
    allowance::Allowance,
    delivery::{DeliveryError, Stage},
};

/// Time for one address of the server to accept a connection; then the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When a conversation becomes encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsMode {
    /// Never: for a relay on this host or in a private network.
    None,
    /// By STARTTLS when the server offers it. Whoever sits in between can take the offer away.
    Opportunistic,
    /// By STARTTLS, or there is no session.
    Starttls,
    /// From the first byte (`smtps`).
    Tls,
}

/// User and password.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user; often a mail address, and therefore a secret like the password.
    pub user: Secret,
    /// The password.
    pub password: Secret,
}

/// Everything that a session needs to know.
pub struct Server {
    /// A host name or an IP address.
    pub host: String,
    /// 25, 587 and 465 are the usual ones.
    pub port: u16,
    /// When to encrypt.
    pub tls_mode: TlsMode,
    /// Whom to trust, for every mode but [`TlsMode::None`].
    pub tls: Option<TlsParameters>,
    /// How to log in; `None`: not at all.
    pub login: Option<Login>,
    /// What to say in EHLO; `None`: this host's name.
    pub hello: Option<String>,
}

impl Server {
    /// Whether a password is configured that anybody on the way could read.
    #[must_use]
    pub fn sends_password_in_clear(&self) -> bool {
        self.login.is_some() && matches!(self.tls_mode, TlsMode::None | TlsMode::Opportunistic)
    }

    /// Connects, greets, encrypts, logs in.
    pub(super) async fn connect(&self, allowance: Allowance) -> Result<AsyncSmtpConnection, DeliveryError> {
        let session = || allowance.ends_from_now(Stage::Session);
        let hello = self.hello.clone().map_or_else(ClientId::default, ClientId::Domain);
        let mut connection = match (self.tls_mode, &self.tls) {
            (TlsMode::Tls, Some(tls)) => {
                let address = (self.host.as_str(), self.port);
                let (timeout, tls) = (Some(CONNECT_TIMEOUT), Some(tls.clone()));
                let opening = AsyncSmtpConnection::connect_tokio1(address, timeout, &hello, tls, None);
                within(session(), Stage::Session, opening).await?
            }
            _ => {
                let wire = Box::new(Wire::new(self.connect_tcp(session()).await?));
                let opening = AsyncSmtpConnection::connect_with_transport(wire, &hello);
                within(session(), Stage::Session, opening).await?
            }
        };
        match (self.tls_mode, &self.tls) {
            (TlsMode::Opportunistic, Some(_)) if !connection.can_starttls() => {}
            (TlsMode::Opportunistic | TlsMode::Starttls, Some(tls)) => {
                within(session(), Stage::Session, connection.starttls(tls.clone(), &hello)).await?;
            }
            _ => {}
        }
        if let Some(login) = &self.login {
            let credentials = Credentials::new(login.user.expose().to_owned(), login.password.expose().to_owned());
            within(session(), Stage::Session, connection.auth(DEFAULT_MECHANISMS, &credentials)).await?;
        }
        Ok(connection)
    }

    /// The first address that accepts.
    async fn connect_tcp(&self, deadline: Instant) -> Result<TcpStream, DeliveryError> {
        match timeout_at(deadline, connect_any(&self.host, self.port)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(DeliveryError::Unreachable { cause: format!("cannot connect: {error}") }),
            Err(_) => Err(DeliveryError::TimedOut { stage: Stage::Session }),
        }
    }
}

async fn connect_any(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in lookup_host((host, port)).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a short command waits for the acknowledgement of the one before.
                let _best_effort = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Without passwords.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls_mode", &self.tls_mode)
            .finish_non_exhaustive()
    }
}
