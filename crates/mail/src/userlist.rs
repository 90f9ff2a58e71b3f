//! Recipients by name: userlist is asked through the gateway, like any other client asks it.
//!
//! So there is nothing here about instances: the gateway finds one that is alive, tries another one when it is not, and
//! says 503 with a reason when there is none.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use axum::{
    body::Bytes,
    http::{Request, header, request},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{
    Secret,
    client::{ClientError, ClientTls, HttpClient},
};
use url::Url;

/// For one question, the gateway's attempts included.
const DEADLINE: Duration = discovery::deadlines::USERLIST_QUESTION;
/// The most bytes of an answer: far more than a page of users with all their attributes takes.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What an operator has to do when userlist answers 401 or 403.
const TOKEN_WANTED: &str = "--userlist-token-file (MAIL_USERLIST_TOKEN_FILE) must name a token with userlist:read and \
                            userlist:write";

/// The way to userlist. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Userlist {
    client: HttpClient,
    gateway: Url,
    token_file: Option<PathBuf>,
}

/// A user of userlist, as far as mail is concerned.
#[derive(Clone, PartialEq, Deserialize)]
pub struct User {
    /// Their number, where userlist says it, and the version of what it knows.
    #[serde(default)]
    pub id: Option<i64>,
    /// See `id`.
    #[serde(default)]
    pub version: Option<i64>,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
    /// `active`, `unsubscribed` or `bounced`; none where userlist does not say.
    #[serde(default = "active")]
    pub status: String,
    /// Whatever else is known.
    #[serde(default)]
    pub attributes: Value,
}

/// An address must not get into a log.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(…)")
    }
}

fn active() -> String {
    "active".to_owned()
}

/// Some of the users.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// In a stable order.
    pub users: Vec<User>,
    /// Where the next page begins; none on the last one.
    #[serde(default)]
    pub next_cursor: Option<Value>,
    /// How many there are in all, where userlist says so.
    #[serde(default)]
    pub total: Option<u64>,
}

impl Page {
    /// Where the next page begins; `None` after the last.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        match self.next_cursor.as_ref()? {
            Value::Null => None,
            Value::String(cursor) => Some(cursor.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// Which users: parameters of `GET /v1/users`, as they are (`{"status":"active","tag":"beta"}`).
pub type Selection = BTreeMap<String, String>;

/// Why userlist gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum UserlistError {
    /// No user has that name.
    #[error("userlist knows nobody of that name")]
    Unknown,
    /// The user is another version than the one that was read.
    #[error("the user has been changed meanwhile")]
    Changed,
    /// The gateway or userlist cannot be reached, or says to come again.
    #[error("userlist cannot be asked: {0}")]
    Unavailable(String),
    /// It was asked something that it refuses.
    #[error("userlist refuses the question: {0}")]
    Refused(String),
}

impl Userlist {
    /// Opens no connection yet. `token_file` has the API token that userlist asks for, and is read for every question,
    /// so that a renewed one counts at once.
    #[must_use]
    pub fn new(gateway: Url, token_file: Option<PathBuf>) -> Self {
        let client = HttpClient::new(&ClientTls::default()).expect("no file is named that could be unusable");
        Self { client, gateway, token_file }
    }

    /// The user of that name.
    ///
    /// # Errors
    /// [`UserlistError::Unknown`]; or userlist cannot be asked.
    pub async fn user(&self, name: &str) -> Result<User, UserlistError> {
        self.get(&format!("userlist/v1/users/{}", utf8_percent_encode(name, NON_ALPHANUMERIC)), &[]).await
    }

    /// At most `limit` users, from where `cursor` says.
    ///
    /// # Errors
    /// Userlist cannot be asked, or refuses the selection.
    pub async fn page(&self, selection: &Selection, cursor: &str, limit: u32) -> Result<Page, UserlistError> {
        let mut query: Vec<(&str, &str)> =
            selection.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let limit = limit.to_string();
        query.push(("limit", &limit));
        if !cursor.is_empty() {
            query.push(("cursor", cursor));
        }
        self.get("userlist/v1/users", &query).await
    }

    /// Gives `user` another status, if they are still what they were when they were read.
    ///
    /// # Errors
    /// [`UserlistError::Changed`]; they are gone; or userlist cannot be asked.
    pub async fn set_status(&self, user: &User, status: &str) -> Result<(), UserlistError> {
        let path = match user.id {
            Some(id) => format!("userlist/v1/users/by-id/{id}"),
            None => format!("userlist/v1/users/{}", utf8_percent_encode(&user.name, NON_ALPHANUMERIC)),
        };
        let mut request = Request::patch(self.url(&path).as_str()).header(header::CONTENT_TYPE, "application/json");
        if let (Some(id), Some(version)) = (user.id, user.version) {
            request = request.header(header::IF_MATCH, format!("\"{id}-{version}\""));
        }
        let body = json!({ "status": status }).to_string();
        self.send(request, body.into()).await.map(|_| ())
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, UserlistError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.send(Request::get(url.as_str()), Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(|_| UserlistError::Unavailable("its answer cannot be read".to_owned()))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.gateway.clone();
        url.set_path(&format!("{}/{path}", self.gateway.path().trim_end_matches('/')));
        url
    }

    /// The body of the answer, when it is a good one.
    async fn send(&self, mut request: request::Builder, body: Bytes) -> Result<Bytes, UserlistError> {
        if let Some(context) = service_kit::request::current() {
            request = request.header("x-request-id", context.id_header()).header("traceparent", context.traceparent());
        }
        if let Some(file) = &self.token_file {
            let token = Secret::from_file(file).map_err(|error| {
                tracing::error!(file = %file.display(), %error, "the token for userlist cannot be read");
                UserlistError::Unavailable("mail has no token for it".to_owned())
            })?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose().trim()));
        }
        let request =
            request.body(body).map_err(|_| UserlistError::Refused("it cannot be written as HTTP".to_owned()))?;
        let answer = self.client.send(request, DEADLINE, ANSWER_MAX_BYTES).await.map_err(|error| lost(&error))?;
        match answer.status.as_u16() {
            200 => Ok(answer.body),
            404 => Err(UserlistError::Unknown),
            412 => Err(UserlistError::Changed),
            // A mistake of the configuration: it says nothing about the user, and an operator will mend it.
            status @ (401 | 403) => {
                tracing::error!(status, wanted = TOKEN_WANTED, "userlist refuses the requests of mail");
                Err(UserlistError::Unavailable(format!("it answers {status}")))
            }
            status @ (400 | 422) => Err(UserlistError::Refused(format!("it answers {status}"))),
            status => Err(UserlistError::Unavailable(format!("the gateway answers {status}"))),
        }
    }
}

/// Without the URL, which holds a name.
fn lost(error: &ClientError) -> UserlistError {
    let what = match error {
        ClientError::TimedOut(_) => "it did not answer in time",
        ClientError::Connect(_) => "the gateway cannot be reached",
        ClientError::Exchange(_) => "the connection was lost",
    };
    UserlistError::Unavailable(what.to_owned())
}
