//! Which server, and how a session with it is opened.

use std::{fmt, io, net::SocketAddr, str::FromStr, time::Duration};

use lettre::{
    Address,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::AsyncSmtpConnection,
        commands::Starttls,
        extension::ClientId,
    },
};
use service_kit::Secret;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::{
    channel::{Channel, Stream},
    extensions::{Extensions, Helo, is_unknown},
    step::{expect, lead},
    tls::Tls,
};
use crate::transport::{
    deadlines::StepDeadlines,
    outcome::{DeliveryError, Stage},
};

/// Time for one address of the server to accept a connection; then the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When a conversation becomes encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsMode {
    /// Never: for a relay on this host or in a private network.
    None,
    /// By STARTTLS when the server offers it. An attacker on the way can remove the offer.
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

/// What `MAIL FROM` says instead of the message's sender: where bounces go. `<>`: no bounces are wanted (RFC 5321,
/// section 4.5.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPath(pub(super) Option<Address>);

impl FromStr for ReturnPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "<>" {
            return Ok(Self(None));
        }
        let address = crate::message::recipient::check(text);
        address
            .map(|address| Self(Some(address)))
            .map_err(|reason| format!("{reason}; write an address, or <> for none"))
    }
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
    pub tls: Option<Tls>,
    /// How to log in; `None`: not at all.
    pub login: Option<Login>,
    /// What to say in EHLO; `None`: this host's name.
    pub hello: Option<String>,
    /// What to say in MAIL FROM; `None`: the message's sender.
    pub return_path: Option<ReturnPath>,
}

/// A server that has greeted.
pub(super) struct Greeted {
    pub(super) connection: AsyncSmtpConnection,
    pub(super) channel: Channel,
    pub(super) extensions: Extensions,
}

impl Server {
    /// Whether a password is configured that anybody on the way could read.
    #[must_use]
    pub fn sends_password_in_clear(&self) -> bool {
        self.login.is_some() && matches!(self.tls_mode, TlsMode::None | TlsMode::Opportunistic)
    }

    /// Connects, greets, encrypts, logs in.
    pub(super) async fn connect(&self, deadlines: StepDeadlines) -> Result<Greeted, DeliveryError> {
        let session = || deadlines.ends_from_now(Stage::Session);
        let (stream, peer) = self.connect_tcp(session()).await?;
        let mut greeted = match (self.tls_mode, &self.tls) {
            (TlsMode::Tls, Some(tls)) => {
                let stream = encrypt(tls, Box::new(stream), session()).await?;
                self.greet(Channel::new(stream, peer), session()).await?
            }
            _ => self.greet(Channel::new(Box::new(stream), peer), session()).await?,
        };
        match (self.tls_mode, &self.tls) {
            (TlsMode::Opportunistic, Some(_)) if !greeted.extensions.starttls => {}
            (TlsMode::Opportunistic | TlsMode::Starttls, Some(tls)) => {
                let (stream, peer) = start_tls(greeted, session()).await?;
                let stream = encrypt(tls, stream, session()).await?;
                greeted = self.greet(Channel::encrypted(stream, peer), session()).await?;
            }
            _ => {}
        }
        self.log_in(&mut greeted, session()).await?;
        Ok(greeted)
    }

    /// The greeting and EHLO; HELO where EHLO is not known (RFC 5321, section 3.2).
    async fn greet(&self, channel: Channel, deadline: Instant) -> Result<Greeted, DeliveryError> {
        let hello = self.hello.clone().map_or_else(ClientId::default, ClientId::Domain);
        let opening = AsyncSmtpConnection::connect_with_transport(Box::new(channel.clone()), &hello);
        let connection = lead(&channel, deadline, Stage::Session, opening).await?;
        let reply = channel.reply();
        let mut greeted = Greeted { connection, channel, extensions: Extensions::default() };
        match reply {
            Some(reply) if is_unknown(&reply) => {
                let saying = greeted.connection.command(Helo(&hello));
                lead(&greeted.channel, deadline, Stage::Session, saying).await?;
            }
            Some(reply) => greeted.extensions = Extensions::of(&reply),
            None => {}
        }
        expect(&greeted.channel, Stage::Session, 2)?;
        Ok(greeted)
    }

    async fn log_in(&self, greeted: &mut Greeted, deadline: Instant) -> Result<(), DeliveryError> {
        let Some(login) = &self.login else { return Ok(()) };
        let credentials = Credentials::new(login.user.expose().to_owned(), login.password.expose().to_owned());
        let logging_in = greeted.connection.auth(DEFAULT_MECHANISMS, &credentials);
        lead(&greeted.channel, deadline, Stage::Session, logging_in).await?;
        expect(&greeted.channel, Stage::Session, 2).map(|_| ())
    }

    /// The first address that accepts.
    async fn connect_tcp(&self, deadline: Instant) -> Result<(TcpStream, SocketAddr), DeliveryError> {
        match timeout_at(deadline, connect_any(&self.host, self.port)).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(DeliveryError::Unreachable { cause: format!("cannot connect: {error}") }),
            Err(_) => Err(DeliveryError::TimedOut { stage: Stage::Session }),
        }
    }
}

/// Says STARTTLS, and takes the stream out for the handshake.
async fn start_tls(mut greeted: Greeted, deadline: Instant) -> Result<(Box<dyn Stream>, SocketAddr), DeliveryError> {
    let unreachable = |cause: &str| DeliveryError::Unreachable { cause: cause.to_owned() };
    if !greeted.extensions.starttls {
        return Err(unreachable("the server does not offer STARTTLS, and nothing may be sent in clear (--smtp-tls)"));
    }
    lead(&greeted.channel, deadline, Stage::Session, greeted.connection.command(Starttls)).await?;
    expect(&greeted.channel, Stage::Session, 2)?;
    greeted.channel.take_stream().ok_or_else(|| unreachable("more than a reply came in clear after STARTTLS"))
}

async fn encrypt(tls: &Tls, stream: Box<dyn Stream>, deadline: Instant) -> Result<Box<dyn Stream>, DeliveryError> {
    let handshake = timeout_at(deadline, tls.handshake(stream)).await;
    handshake.unwrap_or(Err(DeliveryError::TimedOut { stage: Stage::Session }))
}

async fn connect_any(host: &str, port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in lookup_host((host, port)).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a short command waits for the acknowledgement of the one before.
                let _best_effort = stream.set_nodelay(true);
                return Ok((stream, address));
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
