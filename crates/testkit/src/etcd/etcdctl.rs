//! `etcdctl`, etcd's own command line, against the members of a cluster.

use std::{fs, process::Command};

use super::EtcdCluster;

impl EtcdCluster {
    /// Runs `etcdctl` against the members that are up, without a user, and returns what it prints.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    pub fn etcdctl(&self, args: &[&str]) -> String {
        self.etcdctl_with(args, "")
    }

    /// The same with something on its standard input.
    ///
    /// # Panics
    ///
    /// As [`EtcdCluster::etcdctl`].
    pub fn etcdctl_with(&self, args: &[&str], input: &str) -> String {
        let up = |index: &usize| self.members[*index].process.is_some() && !self.members[*index].frozen;
        let endpoints: Vec<String> = (0..self.members.len()).filter(up).map(|index| self.endpoint(index)).collect();
        let stdin = self.dir.path().join("etcdctl-input");
        fs::write(&stdin, input).expect("a writable temporary folder");
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints.join(",")).args(args);
        command.stdin(fs::File::open(&stdin).expect("the file that was just written"));
        let output = command.output().unwrap_or_else(|error| panic!("cannot run etcdctl: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "etcdctl {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}
