//! Values that are made from files, and made again when the files change.
//!
//! Tokens and certificates are renewed while services run. The files are small, so they are simply read every
//! [`INTERVAL`] and compared with what was read before: that works alike for an editor that writes in place, for one
//! that renames, and for the links to links of an orchestrator's mounted secrets, where time stamps and inodes mislead.
//!
//! An invalid new version changes nothing: the old value stays, and one warning says why.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, task::spawn_blocking};

use crate::chain;

/// How often the files are looked at: 1 s.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The value made of the files' newest version that made sense. Clones share it.
#[derive(Debug)]
pub struct Reloaded<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    value: ArcSwap<T>,
    /// How often the value was replaced.
    replaced: watch::Sender<u64>,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The files can be read, but are invalid.
    #[error("{} cannot be used: {reason}", .path.display())]
    Content {
        /// The first of the files.
        path: PathBuf,
        /// What is wrong; never with a secret in it.
        reason: String,
    },
}

/// The contents of the files, in their order.
type Contents = Vec<Vec<u8>>;

// === impl Reloaded ===

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// A value that never changes.
    pub fn fixed(value: T) -> Self {
        Self(Arc::new(Shared { value: ArcSwap::from_pointee(value), replaced: watch::Sender::default() }))
    }

    /// Reads `files` and makes the value of their contents with `parse`, now and after every change, until the last
    /// clone is dropped. `what` names the value in the log.
    ///
    /// # Errors
    /// The first version cannot be read or is invalid: at a start, that is a mistake to be told at once.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn follow(
        what: &'static str,
        files: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, ReloadError> {
        let contents = read(&files)?;
        let value = parse(&contents).map_err(|reason| refused(&files, reason))?;
        let this = Self::fixed(value);
        tokio::spawn(keep_up(what, files, contents, parse, Arc::downgrade(&this.0)));
        Ok(this)
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.value.load_full()
    }

    /// Is marked as changed after every replacement of the value, and fails when the last clone has been dropped.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.replaced.subscribe()
    }
}

/// Checks the files until the last handle on the value is dropped. Reads beside the tasks of the service: a file system
/// over the network may hang.
async fn keep_up<T>(
    what: &'static str,
    files: Vec<PathBuf>,
    mut known: Contents,
    parse: impl Fn(&[Vec<u8>]) -> Result<T, String>,
    shared: Weak<Shared<T>>,
) {
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let looked_at = files.clone();
        let Ok(found) = spawn_blocking(move || read(&looked_at)).await else { return };
        let Some(shared) = shared.upgrade() else { return };
        let made = match found {
            Ok(contents) if contents == known => continue,
            Ok(contents) => {
                known = contents;
                parse(&known).map_err(|reason| refused(&files, reason))
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(made) => {
                shared.value.store(Arc::new(made));
                shared.replaced.send_modify(|count| *count += 1);
                complaint.clear();
                tracing::info!(what, "read again, because a file changed");
            }
            Err(error) => complain(what, &mut complaint, chain(&error).to_string()),
        }
    }
}

/// Warns once about the same thing.
fn complain(what: &str, before: &mut String, error: String) {
    if *before != error {
        tracing::warn!(what, error, "the changed files are invalid; the previous version stays in force");
        *before = error;
    }
}

fn read(files: &[PathBuf]) -> Result<Contents, ReloadError> {
    files
        .iter()
        .map(|path| std::fs::read(path).map_err(|source| ReloadError::Read { path: path.clone(), source }))
        .collect()
}

fn refused(files: &[PathBuf], reason: String) -> ReloadError {
    ReloadError::Content { path: files.first().cloned().unwrap_or_default(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(&contents[0]);
        text.trim().parse().map_err(|_| "it is no number".to_owned())
    }

    async fn becomes(value: &Reloaded<u32>, expected: u32) {
        let reached = async {
            while *value.get() != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the new version counts");
    }

    #[tokio::test]
    async fn a_new_version_counts_and_a_broken_one_keeps_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let value = Reloaded::follow("number", vec![path.clone()], number).unwrap();
        std::fs::write(&path, "2").unwrap();
        becomes(&value, 2).await;
        std::fs::write(&path, "nonsense").unwrap();
        tokio::time::sleep(INTERVAL + Duration::from_millis(500)).await;
        assert_eq!(*value.get(), 2);
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(INTERVAL + Duration::from_millis(500)).await;
        assert_eq!(*value.get(), 2);
        std::fs::write(folder.path().join("new"), "3").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        becomes(&value, 3).await;
    }

    #[tokio::test]
    async fn a_first_version_that_makes_no_sense_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let missing = Reloaded::follow("number", vec![path.clone()], number).unwrap_err();
        assert!(missing.to_string().contains("number"), "{missing}");
        std::fs::write(&path, "x").unwrap();
        let broken = Reloaded::follow("number", vec![path], number).unwrap_err();
        assert!(broken.to_string().ends_with("it is no number"), "{broken}");
    }
}
