//! The one folder in which everything lies that a restart must find again.
//!
//! ```text
//! data/
//!   muster.lock           held by the running `muster up`; its process id is in it
//!   muster.json           what runs where, see `state.rs`
//!   etcd/etcd-1 …         one folder a member, and the sockets over which they talk to each other
//!   userlist.db           users (SQLite)
//!   mail/*.eml            one file a mail
//!   balance/              the gateway's table, for a start without etcd
//! ```

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// The folder, opened: it exists, and no other process uses it as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenDataError {
    #[error("cannot make the data folder {}; give another one with --data", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write {}; give another folder with --data", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the data folder {} must have a name in UTF-8, because addresses of files are made of it", path.display())]
    Name { path: PathBuf },
    #[error("another `muster up`{holder} uses {}; stop it, or give this one its own folder with --data", path.display())]
    Locked { path: PathBuf, holder: String },
}

// === impl DataFolder ===

impl DataFolder {
    /// Makes the folder where it is missing, and locks it.
    ///
    /// The lock is `flock(2)`: the kernel lets go of it when the process ends, however it ends, so that no user ever
    /// has to delete a stale file.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenDataError> {
        // Other users of this machine must not read the mail.
        let create = |path: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| OpenDataError::Create { path: path.to_owned(), source })
        };
        create(path)?;
        let path = path.canonicalize().map_err(|source| OpenDataError::Create { path: path.to_owned(), source })?;
        if path.to_str().is_none() {
            return Err(OpenDataError::Name { path });
        }
        let lock = lock(&path)?;
        let folder = Self { path, _lock: lock };
        for part in [folder.etcd(), folder.mail(), folder.balance()] {
            create(&part)?;
        }
        Ok(folder)
    }

    /// The folder itself, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the etcd members have their folders and sockets.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.path.join("etcd")
    }

    /// Where mails go.
    pub(crate) fn mail(&self) -> PathBuf {
        self.path.join("mail")
    }

    /// Where the gateway keeps its table.
    pub(crate) fn balance(&self) -> PathBuf {
        self.path.join("balance")
    }

    /// Mails that were accepted and are not delivered yet.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.path.join("outbox.db")
    }

    /// The users.
    pub(crate) fn users(&self) -> PathBuf {
        self.path.join("userlist.db")
    }
}

fn lock(folder: &Path) -> Result<File, OpenDataError> {
    let path = folder.join("muster.lock");
    let refused = |source| OpenDataError::Write { path: path.clone(), source };
    let mut file = File::options().create(true).read(true).write(true).truncate(false).open(&path).map_err(refused)?;
    match try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Who holds it is a courtesy; not knowing it changes nothing.
            let _ = file.read_to_string(&mut pid);
            let holder = pid.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default();
            return Err(OpenDataError::Locked { path: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(refused(source)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(refused)?;
    Ok(file)
}

/// Tries for a moment: of a `muster up` that was killed while it started a process, that process may hold the lock
/// until it has become its program, because a fork shares it.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_users_of_one_folder_are_an_error_that_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataFolder::open(&dir.path().join("a/b")).unwrap();
        let error = DataFolder::open(first.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        let path = first.path().to_owned();
        drop(first);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataFolder::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("cannot make the data folder") && error.contains("--data"), "{error}");
    }
}
