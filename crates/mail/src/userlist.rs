//! Recipients by name: userlist is asked through the gateway, like any other client asks it.
//!
//! So there is nothing here about instances: the gateway finds one that is alive, tries another one when it is not, and
//! says 503 with a reason when there is none.

use std::{collections::BTreeMap, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::request;
use url::Url;

/// For one question, the gateway's attempts included.
const DEADLINE: Duration = Duration::from_secs(10);

/// The way to userlist. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Userlist {
    client: reqwest::Client,
    gateway: Url,
}

/// Somebody whom userlist knows, as far as mail is concerned.
#[derive(Clone, PartialEq, Deserialize)]
pub struct User {
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

/// Which users: parameters of `GET /v1/users`, as they are (`{"status":"active","tag":"beta"}`).
pub type Selection = BTreeMap<String, String>;

/// Why userlist could not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum UserlistError {
    /// Nobody has that name.
    #[error("userlist knows nobody of that name")]
    Unknown,
    /// The gateway or userlist cannot be reached, or says to come again.
    #[error("userlist cannot be asked: {0}")]
    Unavailable(String),
    /// It was asked something that it refuses.
    #[error("userlist refuses the question: {0}")]
    Refused(String),
}

impl Userlist {
    /// Connects to nobody yet.
    #[must_use]
    pub fn new(gateway: Url) -> Self {
        let client = reqwest::Client::builder().timeout(DEADLINE).connect_timeout(DEADLINE / 4).no_proxy().build();
        Self { client: client.unwrap_or_default(), gateway }
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

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, UserlistError> {
        let mut url = self.gateway.clone();
        url.set_path(&format!("{}/{path}", self.gateway.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut asking = self.client.get(url);
        if let Some(context) = request::current() {
            asking = asking.header("x-request-id", context.id).header("traceparent", context.traceparent);
        }
        // reqwest's errors hold the URL, and that holds a name.
        let lost = |error: reqwest::Error| UserlistError::Unavailable(error.without_url().to_string());
        let response = asking.send().await.map_err(lost)?;
        match response.status().as_u16() {
            200 => response.json().await.map_err(lost),
            404 => Err(UserlistError::Unknown),
            status @ (400 | 401 | 403 | 422) => Err(UserlistError::Refused(format!("it answers {status}"))),
            status => Err(UserlistError::Unavailable(format!("the gateway answers {status}"))),
        }
    }
}
