//! How registries and gateways are asked: over TLS where the address says so, with a token where there is one.

use std::{
    error::Error as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header, request::Builder};
use serde_json::Value;
use service_kit::{
    Secret,
    client::{ClientError, ClientTls, HttpClient},
    signature::SigningKey,
};
use url::Url;

use crate::{client::places::shown, terminal::printable::printable};

/// How long one answer may take. A registry answers within 2 s even when etcd is gone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read: a list of ten thousand instances is a few MiB.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;
/// More of a refusal than this is no reason.
const REASON_MAX_CHARS: usize = 300;

/// Whom to trust, and what to show, over https.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TrustOptions {
    /// The certificate authority (PEM) to trust for https. Default: those of the system.
    #[arg(long = "ca", visible_alias = "registry-ca-file", env = "REGISTRY_CA_FILE", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate chain (PEM) to show where one is asked for.
    #[arg(long, env = "REGISTRY_CERT_FILE", value_name = "FILE", requires = "registry_cert_key_file")]
    registry_cert_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate.
    #[arg(long, env = "REGISTRY_CERT_KEY_FILE", value_name = "FILE", requires = "registry_cert_file")]
    registry_cert_key_file: Option<PathBuf>,
}

/// What proves to a registry that this is allowed. As for services: a token, or a key to sign with, from a file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TokenOptions {
    /// A file with the API token that the registry asks for.
    #[arg(long, env = "REGISTRY_TOKEN_FILE", value_name = "FILE", conflicts_with = "registry_key_file")]
    registry_token_file: Option<PathBuf>,
    /// A file with NAME:KEY to sign requests to the registry with, instead of a token.
    #[arg(long, env = "REGISTRY_KEY_FILE", value_name = "FILE")]
    registry_key_file: Option<PathBuf>,
}

/// Asks.
#[derive(Debug)]
pub(crate) struct Asker {
    client: HttpClient,
    proof: Option<Proof>,
}

#[derive(Debug)]
enum Proof {
    Token(Secret),
    Key(SigningKey),
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `null` for an empty body.
    pub(crate) json: Result<Value, String>,
    /// What the clock of the one who answers says.
    pub(crate) date: Option<SystemTime>,
    text: String,
}

// === impl TokenOptions ===

impl TokenOptions {
    fn proof(&self) -> anyhow::Result<Option<Proof>> {
        let cannot_use = |path: &PathBuf| format!("cannot use {}", path.display());
        if let Some(path) = &self.registry_token_file {
            let token = Secret::from_file(path).with_context(|| cannot_use(path))?;
            return Ok(Some(Proof::Token(token)));
        }
        let Some(path) = &self.registry_key_file else { return Ok(None) };
        let key = SigningKey::from_file(path).with_context(|| cannot_use(path))?;
        Ok(Some(Proof::Key(key)))
    }
}

// === impl Asker ===

impl Asker {
    /// For `urls`. `tokens`: the default for those to whom no token is sent.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn new(urls: &[Url], trust: &TrustOptions, tokens: &TokenOptions) -> anyhow::Result<Self> {
        let proof = tokens.proof()?;
        if urls.iter().all(|url| url.scheme() == "http") {
            return Ok(Self { client: HttpClient::plain(), proof });
        }
        let identity = trust.registry_cert_file.clone().zip(trust.registry_cert_key_file.clone());
        let client = HttpClient::new(&ClientTls { ca_file: trust.ca.clone(), identity })?;
        Ok(Self { client, proof })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// Why there is no answer, for a person.
    pub(crate) async fn ask(&self, method: &Method, url: &Url, body: Option<&Value>) -> Result<Answer, String> {
        self.send(Request::builder().method(method), url, body).await
    }

    /// Writes what is not there yet; the answer is 412 when something is.
    ///
    /// # Errors
    /// Why there is no answer, for a person.
    pub(crate) async fn create(&self, url: &Url, body: &Value) -> Result<Answer, String> {
        let request = Request::builder().method(Method::PUT).header(header::IF_NONE_MATCH, "*");
        self.send(request, url, Some(body)).await
    }

    async fn send(&self, request: Builder, url: &Url, body: Option<&Value>) -> Result<Answer, String> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = request.uri(url.as_str());
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let mut request = request.body(body).map_err(|error| error.to_string())?;
        if let Some(proof) = &self.proof {
            proof.add_to(&mut request);
        }
        let answer = self.client.send(request, PATIENCE, ANSWER_MAX_BYTES).await;
        let answer = answer.map_err(|error| reason(&error))?;
        let date = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let is_nothing = answer.body.iter().all(u8::is_ascii_whitespace);
        let json = if is_nothing { Ok(Value::Null) } else { serde_json::from_slice(&answer.body) };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(Answer { status: answer.status, json: json.map_err(|error| error.to_string()), date, text })
    }
}

/// Why there is no answer: what it was, and what it came of. What lies between the two are the client's own layers.
fn reason(error: &ClientError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

// === impl Proof ===

impl Proof {
    /// To a request that is complete otherwise: a field that is set later is not signed.
    fn add_to(&self, request: &mut Request<Bytes>) {
        match self {
            Self::Token(token) => {
                let value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()));
                let value = value.unwrap_or(HeaderValue::from_static("Bearer"));
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            Self::Key(key) => key.sign(request),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Whether who asks is not allowed to, or not known.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    }

    /// `http://127.0.0.1:8500: 503 etcd cannot commit`: the detail of a problem, or the text.
    pub(crate) fn refusal(&self, url: &Url) -> String {
        let detail = self.json.as_ref().ok().and_then(|problem| problem["detail"].as_str());
        let text: String = printable(detail.unwrap_or(self.text.trim())).chars().take(REASON_MAX_CHARS).collect();
        let advice = match self.status {
            StatusCode::UNAUTHORIZED => "; a token is sent with --registry-token-file FILE (REGISTRY_TOKEN_FILE)",
            _ => "",
        };
        format!("{}: {} {text}{advice}", shown(url), self.status.as_u16())
    }
}
