//! What services write to disk is their user's alone, also when a person starts them by hand.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use e2e::suite::{PARTS, Suite};
use nix::sys::stat::{Mode, umask};
use serde_json::json;
use testkit::wait::{SOON, wait_until};

/// Everything below `folder`, with its permissions.
fn below(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // SQLite removes files beside its own while we look.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        found.push((path.clone(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            found.extend(below(&path));
        }
    }
    found
}

#[tokio::test]
async fn databases_outbox_mails_and_snapshot_are_their_users_alone() {
    // That of a shell; what this test itself writes is logs.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let mut suite = Suite::prepare().await;
    let folder = suite.folder().to_owned();
    // As the version before left it.
    let old = folder.join("userlist.db");
    fs::write(&old, "").unwrap();
    fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
    for name in PARTS {
        suite.run(name);
    }
    suite.wait_until_ready().await;
    let user = json!({"method": "put", "name": "dong", "email": "d@example.com"});
    assert_eq!(suite.post("userlist", user).await.status, 200);
    assert_eq!(suite.post("mail", json!({"address": "a@b.c", "message": "hello"})).await.status, 200);
    wait_until("a snapshot", SOON, async || folder.join("table.json").exists()).await;
    let found = below(&folder);
    for name in ["userlist.db", "userlist.db-wal", "outbox.db", "mail", "table.json"] {
        assert!(found.iter().any(|(path, _)| path.ends_with(name)), "{name} in {found:?}");
    }
    let is_ours = |path: &Path| path.extension().is_none_or(|extension| extension != "log");
    for (path, mode) in found.iter().filter(|(path, _)| is_ours(path)) {
        assert_eq!(mode & 0o077, 0, "{} has the mode {mode:o}", path.display());
    }
}
