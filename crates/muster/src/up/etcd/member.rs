//! The three members of the etcd cluster: arguments, and whether one has been here before.
//!
//! Members talk to each other over Unix sockets in the data folder (`unix://etcd-1:2380` is the socket `etcd-1:2380` in
//! the working folder; etcd's own tests do the same). etcd remembers the addresses of its members in its data for ever,
//! so TCP ports would have to be free again at every later start, and there is no good way out when one is not. A
//! socket belongs to the folder: no other program takes it, and it moves along when the folder is moved.
//!
//! Clients use TCP as everywhere. Where a member listens for them is not remembered: it may change with each start.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::up::etcd::log_level::EtcdLogLevel;

/// How many members there are. Three is the least that survives the loss of one.
pub(crate) const MEMBERS: usize = 3;

/// How many must work for etcd to work.
pub(crate) const QUORUM: usize = MEMBERS / 2 + 1;

/// How a member without data comes into the cluster (etcd's `--initial-cluster-state`; ignored when it has data).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// All members start together for the first time.
    New,
    /// The others know it already, see [`crate::up::etcd::rejoin`].
    Existing,
}

/// `etcd-1`; `index` counts from zero.
pub(crate) fn name(index: usize) -> String {
    format!("etcd-{}", index + 1)
}

/// Where a member listens for the others, as etcd writes it.
pub(crate) fn peer_url(name: &str) -> String {
    // 3.4 wants a port even here.
    format!("unix://{name}:2380")
}

/// The folder of a member.
pub(crate) fn folder(etcd: &Path, name: &str) -> PathBuf {
    etcd.join(name)
}

/// Whether a member has taken part before: then it has a write-ahead log. An empty folder is no member; etcd makes the
/// log under another name and renames it when it is whole.
pub(crate) fn has_data(etcd: &Path, name: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder(etcd, name).join("member/wal")) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wal"))
}

/// The arguments of a member whose working folder is `etcd`.
pub(crate) fn arguments(name: &str, etcd: &Path, client: SocketAddr, join: Join, log: EtcdLogLevel) -> Vec<OsString> {
    let members: Vec<String> = (0..MEMBERS).map(self::name).map(|name| format!("{name}={}", peer_url(&name))).collect();
    let state = match join {
        Join::New => "new",
        Join::Existing => "existing",
    };
    let options: [(&str, OsString); 15] = [
        ("--name", name.into()),
        ("--data-dir", folder(etcd, name).into()),
        ("--listen-client-urls", format!("http://{client}").into()),
        ("--advertise-client-urls", format!("http://{client}").into()),
        ("--listen-peer-urls", peer_url(name).into()),
        ("--initial-advertise-peer-urls", peer_url(name).into()),
        ("--initial-cluster", members.join(",").into()),
        ("--initial-cluster-state", state.into()),
        ("--initial-cluster-token", "muster".into()),
        // History for an hour, then forgotten; at most 512 MiB on disk. The same as in the containers.
        ("--auto-compaction-mode", "periodic".into()),
        ("--auto-compaction-retention", "1h".into()),
        ("--quota-backend-bytes", "536870912".into()),
        ("--logger", "zap".into()),
        ("--log-outputs", "stderr".into()),
        ("--log-level", log.as_str().into()),
    ];
    options.into_iter().flat_map(|(option, value)| [option.into(), value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_data_only_once_its_log_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let member = folder(dir.path(), "etcd-1").join("member");
        assert!(!has_data(dir.path(), "etcd-1"));
        fs::create_dir_all(member.join("wal.tmp")).unwrap();
        fs::write(member.join("wal.tmp/0.wal"), "").unwrap();
        assert!(!has_data(dir.path(), "etcd-1"), "killed while it was made");
        fs::rename(member.join("wal.tmp"), member.join("wal")).unwrap();
        assert!(has_data(dir.path(), "etcd-1"));
    }

    #[test]
    fn members_know_each_other_by_sockets_and_not_by_ports() {
        let client = "127.0.0.1:2379".parse().unwrap();
        let arguments = arguments("etcd-2", Path::new("/d/etcd"), client, Join::Existing, EtcdLogLevel::Warn);
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        let of = |option: &str| arguments[arguments.iter().position(|argument| *argument == option).unwrap() + 1];
        assert_eq!(
            of("--initial-cluster"),
            "etcd-1=unix://etcd-1:2380,etcd-2=unix://etcd-2:2380,etcd-3=unix://etcd-3:2380"
        );
        assert_eq!(of("--listen-peer-urls"), "unix://etcd-2:2380");
        assert_eq!((of("--data-dir"), of("--initial-cluster-state")), ("/d/etcd/etcd-2", "existing"));
    }
}
