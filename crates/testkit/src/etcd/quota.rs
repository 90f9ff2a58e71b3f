//! A database that is filled up to its quota and emptied again, and what a member counts meanwhile.

use std::{fs, process::Command};

use super::{EtcdCluster, get};
use crate::wait::{SOON, wait_for};

// === impl EtcdCluster ===

impl EtcdCluster {
    /// A counter or gauge of member `index`, with its labels as they are printed:
    /// `grpc_server_started_total{grpc_method="LeaseGrant",grpc_service="etcdserverpb.Lease",grpc_type="unary"}`. 0
    /// when there is none.
    ///
    /// # Panics
    ///
    /// When the member does not tell.
    pub async fn metric(&self, index: usize, name: &str) -> f64 {
        let port = self.members[index].metrics_port;
        let text = wait_for("the metrics of an etcd member", SOON, || get(port, "/metrics")).await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    /// How often member `index` was called: `calls(0, "Lease", "LeaseGrant")`.
    ///
    /// # Panics
    ///
    /// As [`EtcdCluster::metric`].
    pub async fn calls(&self, index: usize, service: &str, method: &str) -> f64 {
        let labels = format!(r#"grpc_method="{method}",grpc_service="etcdserverpb.{service}",grpc_type="unary""#);
        self.metric(index, &format!("grpc_server_started_total{{{labels}}}")).await
    }

    /// Writes values until the database has reached its quota (`--quota-backend-bytes` among
    /// [`EtcdConfig::args`](super::EtcdConfig::args); choose a small one), as another program would.
    ///
    /// # Panics
    ///
    /// When it takes more than 64 MiB.
    pub fn fill(&self) {
        let block = "x".repeat(1024 * 1024);
        for _ in 0..64 {
            let stdin = self.dir.path().join("etcdctl-input");
            fs::write(&stdin, &block).expect("a writable temporary folder");
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint(0), "put", "filler"]);
            command.stdin(fs::File::open(&stdin).expect("the file that was just written"));
            let output = command.output().unwrap_or_else(|error| panic!("cannot run etcdctl: {error}"));
            if String::from_utf8_lossy(&output.stderr).contains("database space exceeded") {
                return;
            }
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        panic!("64 MiB fit into the database; give it a smaller quota");
    }

    /// What an operator does about [`EtcdCluster::fill`]: compacts, defragments, clears the alarm.
    ///
    /// # Panics
    ///
    /// When etcd refuses.
    pub fn make_room(&self) {
        self.etcdctl(&["del", "filler"]);
        let status = self.etcdctl(&["get", "filler", "-w", "json"]);
        let revision = status.split("\"revision\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        self.etcdctl(&["compact", revision.expect("a header with a revision"), "--physical"]);
        self.etcdctl(&["defrag"]);
        self.etcdctl(&["alarm", "disarm"]);
    }
}
