//! The last known instances on disk, so that the gateway can start while etcd is down.
//!
//! The file is replaced as a whole (written beside, synced, renamed), so that a crash leaves the old one or the new one.
//! It is JSON with the keys and values of etcd, for people to read.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::discovery::instances::Saved;

/// Where the snapshot is kept.
#[derive(Debug, Clone)]
pub struct SnapshotFile(PathBuf);

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is there and cannot be read.
    #[error("cannot read the snapshot {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not one of ours, or damaged.
    #[error("cannot understand the snapshot {path}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The disk is full, the folder is missing, or may not be written.
    #[error("cannot write the snapshot {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Content {
    saved_at_unix_ms: u64,
    #[serde(flatten)]
    saved: Saved,
}

// === impl SnapshotFile ===

impl SnapshotFile {
    /// At `path`; its folder must exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// What was saved last, and when; `None` when nothing ever was.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Read`], [`SnapshotError::Parse`].
    pub fn load(&self) -> Result<Option<(Saved, SystemTime)>, SnapshotError> {
        let path = || self.0.clone();
        let bytes = match std::fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SnapshotError::Read { path: path(), source }),
        };
        let content: Content =
            serde_json::from_slice(&bytes).map_err(|source| SnapshotError::Parse { path: path(), source })?;
        let saved_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(content.saved_at_unix_ms));
        Ok(Some((content.saved, saved_at.unwrap_or(SystemTime::UNIX_EPOCH))))
    }

    /// Replaces what was saved. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Write`]; the old file is then as it was.
    pub fn save(&self, saved: Saved) -> Result<(), SnapshotError> {
        self.save_timed(saved, Instant::now()).map(drop)
    }

    /// The same; how long it took since `started` until there was nothing left to do but to wait for the disk.
    pub(crate) fn save_timed(&self, saved: Saved, started: Instant) -> Result<Duration, SnapshotError> {
        self.replace(saved, started).map_err(|source| SnapshotError::Write { path: self.0.clone(), source })
    }

    fn replace(&self, saved: Saved, started: Instant) -> io::Result<Duration> {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let saved_at_unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let json = serde_json::to_vec_pretty(&Content { saved_at_unix_ms, saved })?;
        let took = started.elapsed();
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(&json)?;
        beside.as_file().sync_all()?;
        beside.persist(&self.0).map_err(|error| error.error)?;
        Ok(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            revision: discovery::Revision(7),
            instances: [("service/mail/a".parse().unwrap(), "10.0.0.5:7070".to_owned())].into(),
            overrides: [("service/mail/b".parse().unwrap(), discovery::Status::Draining.into())].into(),
            policies: [("mail".parse().unwrap(), "{}".to_owned())].into(),
            ..Saved::default()
        }
    }

    #[test]
    fn what_is_saved_is_loaded_with_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::at(folder.path().join("table.json"));
        assert!(file.load().unwrap().is_none());
        file.save(Saved::default()).unwrap();
        file.save(saved()).unwrap();
        let (loaded, at) = file.load().unwrap().unwrap();
        assert_eq!(loaded, saved());
        assert!(at.elapsed().unwrap() < Duration::from_secs(60));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.json");
        std::fs::write(&path, "{\"saved_at").unwrap();
        let error = SnapshotFile::at(&path).load().unwrap_err();
        assert!(matches!(error, SnapshotError::Parse { .. }) && error.to_string().contains("table.json"));
        let nowhere = SnapshotFile::at(folder.path().join("nowhere/table.json"));
        assert!(matches!(nowhere.save(saved()), Err(SnapshotError::Write { .. })));
    }
}
