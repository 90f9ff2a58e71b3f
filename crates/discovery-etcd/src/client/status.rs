//! How the cluster is, member by member: for readiness and for tests.

use discovery::Revision;
use futures::future::join_all;
use tokio::time::timeout;

use crate::client::{etcd::Etcd, failure::Failure, member::Member};

/// The cluster as its members describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdStatus {
    /// Every configured member, in the order of the configuration.
    pub members: Vec<(String, Result<MemberStatus, Failure>)>,
}

/// One member that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// The id of the member that it takes for the leader; 0 for none.
    pub leader: u64,
    /// How many entries its raft log has had. Steady keep-alives do not add to it.
    pub raft_index: u64,
    /// Its newest revision.
    pub revision: Revision,
    /// Its version, as `3.5.16`.
    pub version: String,
    /// What it complains of: alarms, or that there is no leader.
    pub errors: Vec<String>,
}

// === impl EtcdStatus ===

impl EtcdStatus {
    /// The members that answered.
    pub fn reachable(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members.iter().filter_map(|(_, status)| status.as_ref().ok())
    }

    /// The id of the leader, if a member that answered knows one.
    pub fn leader(&self) -> Option<u64> {
        self.reachable().map(|member| member.leader).find(|leader| *leader != 0)
    }

    /// The longest raft log of those that answered.
    pub fn raft_index(&self) -> Option<u64> {
        self.reachable().map(|member| member.raft_index).max()
    }
}

// === impl MemberStatus ===

impl MemberStatus {
    /// The alarm of which it tells, if one forbids writes.
    pub fn alarm(&self) -> Option<Failure> {
        let alarm = |name: &str| self.errors.iter().find(|error| error.contains(name)).cloned();
        alarm("NOSPACE").map(Failure::Full).or_else(|| alarm("CORRUPT").map(Failure::Corrupt))
    }
}

// === impl Etcd ===

impl Etcd {
    /// Asks every member at once, each for one attempt. Never fails: who does not answer is in the result. With
    /// authentication, newer versions of etcd (3.5.30, not 3.4) answer only root.
    pub async fn status(&self) -> EtcdStatus {
        let asked = self.members.iter().map(async |member| {
            let status = timeout(self.attempt(), member_status(member)).await.unwrap_or(Err(Failure::Silent));
            (member.endpoint.clone(), status)
        });
        EtcdStatus { members: join_all(asked).await }
    }
}

async fn member_status(member: &Member) -> Result<MemberStatus, Failure> {
    let response = member.attempt(&|client| {
        let mut maintenance = client.maintenance_client();
        async move { maintenance.status().await }
    });
    let response = response.await?;
    let header = response.header();
    Ok(MemberStatus {
        id: header.map_or(0, |header| header.member_id()),
        leader: response.leader(),
        raft_index: response.raft_index(),
        revision: Revision(header.map_or(0, |header| header.revision())),
        version: response.version().to_owned(),
        errors: response.errors().to_vec(),
    })
}
