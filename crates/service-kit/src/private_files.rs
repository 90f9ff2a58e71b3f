//! Files that are their user's alone.
//!
//! What services write to disk (users, messages, routing tables) is of no concern to other users of the machine.
//! Databases make files beside their own when they like, so it is the process that is told ([`by_default`]), not each
//! place that creates one. What a process with a wider umask has left behind is taken back ([`withdraw_sqlite`]).

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, umask};

/// The permissions of others, of which any marks a file as readable by everyone.
const OTHERS: u32 = 0o007;

/// From now on this process creates files with 0600 at most, and folders with 0700, whatever umask it was started with;
/// and so do the processes that it starts.
pub fn by_default() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Takes a SQLite database, and the files beside it, from everyone but their user, if everyone has them now.
///
/// A file that only a group has (0640) stays as it is: its operator meant that. Errors are logged; they are no reason
/// not to start, because the file was like that before.
pub fn withdraw_sqlite(file: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match withdraw(&path) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(file = %path.display(), "other users of this machine could read it; its mode is now 600")
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "other users of this machine can read it; set its mode to 600");
            }
        }
    }
}

/// Whether the file had to be taken from others. One that is not there has nothing to take.
fn withdraw(file: &Path) -> io::Result<bool> {
    let mode = match fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if mode & OTHERS == 0 {
        return Ok(false);
    }
    fs::set_permissions(file, Permissions::from_mode(mode & 0o700)).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everyone_could_read_is_withdrawn_and_what_a_group_was_given_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.db");
        for (before, after) in [(0o644, 0o600), (0o664, 0o600), (0o640, 0o640), (0o600, 0o600)] {
            let beside = folder.path().join("users.db-wal");
            for path in [&file, &beside] {
                fs::write(path, "").unwrap();
                fs::set_permissions(path, Permissions::from_mode(before)).unwrap();
            }
            withdraw_sqlite(&file);
            for path in [&file, &beside] {
                assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, after, "{path:?} {before:o}");
            }
        }
    }
}
