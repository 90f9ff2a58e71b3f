//! Brings a member of etcd back whose folder is gone while the other two still have theirs.
//!
//! etcd refuses to start such a member as it was ("has already been bootstrapped"), and rightly: it has forgotten its
//! votes. The way that etcd's runtime reconfiguration guide gives is to take the lost member out of the cluster and to
//! add it as a new one, which then fetches everything from the others. The same path serves a first start that was cut
//! off before this member had ever run.
//!
//! etcd's JSON gateway is used (`/v3/cluster/member/…`), in which 64-bit ids are strings.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use service_kit::client::{ClientError, HttpClient};
use tokio::time::{Instant, sleep};

/// How long to ask. The others need 5 s of being connected.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(2);
/// A list of three members has about a KiB.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
const PAUSE: Duration = Duration::from_millis(250);

/// Why the member could not be brought back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RejoinError {
    #[error("cannot ask {url}")]
    Ask { url: String, source: ClientError },
    #[error("{url} answered {status}: {body}")]
    Refused { url: String, status: StatusCode, body: String },
    #[error("cannot read the answer of {url}")]
    Answer { url: String, source: serde_json::Error },
}

#[derive(Debug, Deserialize)]
struct MemberList {
    members: Vec<Member>,
}

/// What etcd says about a member. Fields that are empty are left out by etcd.
#[derive(Debug, Deserialize)]
struct Member {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    /// Set by the member itself once it has started.
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
}

/// What is to be done about a member without data.
#[derive(Debug, PartialEq, Eq)]
enum Repair {
    /// The others wait for it: it was added and has never run.
    None,
    /// The others do not know it.
    Add,
    /// It has run before: this entry is dead.
    Replace { id: String },
}

/// Makes the cluster, asked at any of `endpoints`, expect a new and empty member that listens at `peer_url`. It can
/// then be started with [`crate::up::etcd::member::Join::Existing`].
///
/// etcd changes its members only when those it has have been connected for 5 s ("unhealthy cluster" before), so this
/// asks again for a while. Each attempt looks at the members anew: one that was cut off half way does no harm.
pub(crate) async fn prepare(client: &HttpClient, endpoints: &[String], peer_url: &str) -> Result<(), RejoinError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut last = Ok(());
        for endpoint in endpoints {
            last = attempt(client, endpoint, peer_url).await;
            if last.is_ok() {
                return last;
            }
        }
        if Instant::now() >= deadline {
            return last;
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(client: &HttpClient, endpoint: &str, peer_url: &str) -> Result<(), RejoinError> {
    let list: MemberList = call(client, endpoint, "list", json!({})).await?;
    match repair(&list.members, peer_url) {
        Repair::None => return Ok(()),
        Repair::Add => {}
        Repair::Replace { id } => {
            call::<Value>(client, endpoint, "remove", json!({ "ID": id })).await?;
        }
    }
    call::<Value>(client, endpoint, "add", json!({ "peerURLs": [peer_url] })).await?;
    Ok(())
}

fn repair(members: &[Member], peer_url: &str) -> Repair {
    match members.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url)) {
        None => Repair::Add,
        Some(member) if member.client_urls.is_empty() => Repair::None,
        Some(member) => Repair::Replace { id: member.id.clone() },
    }
}

async fn call<T: DeserializeOwned>(
    client: &HttpClient,
    endpoint: &str,
    what: &str,
    body: Value,
) -> Result<T, RejoinError> {
    let url = format!("{endpoint}/v3/cluster/member/{what}");
    let request = Request::post(&url).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Bytes::from(body.to_string())).expect("an endpoint of our own is a URL");
    match client.send(request, CALL_DEADLINE, ANSWER_MAX_BYTES).await {
        Ok(answer) if answer.status.is_success() => answer.json().map_err(|source| RejoinError::Answer { url, source }),
        Ok(answer) => Err(RejoinError::Refused { url, status: answer.status, body: answer.text().into_owned() }),
        Err(source) => Err(RejoinError::Ask { url, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_ran_is_replaced_and_one_that_never_did_is_only_started() {
        let list = r#"{"members":[
            {"ID":"1","name":"etcd-1","peerURLs":["unix://etcd-1:2380"],"clientURLs":["http://127.0.0.1:2379"]},
            {"ID":"18446744073709551615","name":"etcd-2","peerURLs":["unix://etcd-2:2380"]}]}"#;
        let MemberList { members } = serde_json::from_str(list).unwrap();
        assert_eq!(repair(&members, "unix://etcd-1:2380"), Repair::Replace { id: "1".to_owned() });
        assert_eq!(repair(&members, "unix://etcd-2:2380"), Repair::None);
        assert_eq!(repair(&members, "unix://etcd-3:2380"), Repair::Add);
    }
}
