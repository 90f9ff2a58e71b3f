//! A real etcd of one member, written to over its JSON gateway (etcd's documentation, "Why gRPC gateway").
//!
//! 64-bit numbers are strings there, keys and values base64.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use testkit::etcd::EtcdCluster;

use super::crowd::Change;

/// Operations of one transaction; etcd's default is not to take more (`--max-txn-ops`).
const OPERATIONS_MAX: usize = 128;
/// Longer than any measurement, in seconds; it is not renewed.
const LEASE_S: u32 = 24 * 3600;
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// etcd, and the one lease that all keys have. It ends with its handle.
#[derive(Debug)]
pub(super) struct Etcd {
    cluster: EtcdCluster,
    client: reqwest::Client,
    lease: Value,
    revision: i64,
}

// === impl Etcd ===

impl Etcd {
    /// Starts an empty one.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build()?;
        let mut etcd = Self { cluster: EtcdCluster::start(1).await, client, lease: Value::Null, revision: 0 };
        etcd.lease = etcd.call("lease/grant", &json!({ "TTL": LEASE_S })).await?["ID"].take();
        ensure!(etcd.lease.is_string(), "etcd grants no lease");
        Ok(etcd)
    }

    /// Where its clients find it.
    pub(super) fn endpoint(&self) -> String {
        self.cluster.endpoint(0)
    }

    /// The revision of what was committed last.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Makes all these changes, in as few transactions as possible. All must be of different keys.
    pub(super) async fn commit(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for some in changes.chunks(OPERATIONS_MAX) {
            let operations: Vec<Value> = some.iter().map(|change| operation(change, &self.lease)).collect();
            let answer = self.call("kv/txn", &json!({ "success": operations })).await?;
            let revision = answer["header"]["revision"].as_str().and_then(|revision| revision.parse().ok());
            self.revision = revision.with_context(|| format!("etcd says no revision: {answer}"))?;
        }
        Ok(())
    }

    async fn call(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.client.post(format!("{}/v3/{path}", self.endpoint())).json(body).send().await?;
        let status = response.status();
        let answer = response.text().await?;
        if !status.is_success() {
            bail!("etcd answers {status} to {path}: {answer}");
        }
        serde_json::from_str(&answer).with_context(|| format!("etcd answers no JSON: {answer}"))
    }

    /// Which revision the gateway mirrors whose operator asks at `admin`; `None` before it has any.
    pub(super) async fn revision_at(&self, admin: SocketAddr) -> Option<i64> {
        let text = self.client.get(format!("http://{admin}/metrics")).send().await.ok()?.text().await.ok()?;
        revision_in(&text)
    }
}

fn operation(change: &Change, lease: &Value) -> Value {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    match change {
        Change::Put(key, value) => {
            json!({ "requestPut": { "key": encode(key), "value": encode(value), "lease": lease } })
        }
        Change::Delete(key) => json!({ "requestDeleteRange": { "key": encode(key) } }),
    }
}

fn revision_in(metrics: &str) -> Option<i64> {
    metrics.lines().find_map(|line| line.strip_prefix("balance_table_revision ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::super::CROWDS;
    use super::*;

    #[test]
    fn the_revision_is_found_among_metrics() {
        let metrics = "# TYPE balance_table_revision gauge\nbalance_table_revision 412\nother 1\n";
        assert_eq!(revision_in(metrics), Some(412));
        assert_eq!(revision_in("other 1\n"), None);
    }

    #[tokio::test]
    async fn what_is_committed_is_in_etcd_with_its_lease() {
        let crowd = CROWDS[0];
        let mut etcd = Etcd::start().await.unwrap();
        etcd.commit(&crowd.registrations().collect::<Vec<_>>()).await.unwrap();
        let filled = etcd.revision();
        etcd.commit(&[crowd.change(0)]).await.unwrap();
        etcd.commit(&[crowd.change(1)]).await.unwrap();
        assert_eq!(etcd.revision(), filled + 2, "each change is a revision");
        let keys = etcd.cluster.etcdctl(&["get", "--prefix", "service/", "--keys-only"]);
        assert_eq!(keys.lines().filter(|line| !line.is_empty()).count(), 9, "{keys}");
        let lease = etcd.lease.as_str().unwrap().parse::<i64>().unwrap();
        let held = etcd.cluster.etcdctl(&["lease", "timetolive", &format!("{lease:x}"), "--keys"]);
        assert!(held.contains("service/s1/i0") && held.contains("config/s1"), "{held}");
    }
}
