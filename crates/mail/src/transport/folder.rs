//! The transport without a server: every message becomes an `.eml` file in a folder, which mail programs open.
//!
//! As in a maildir, a message is written under a name that readers pass over, brought to the disk, and then renamed;
//! the folder is brought to the disk, too. Accepted therefore means: there after a power failure. Whatever goes wrong
//! on the way takes the file with it, so that the folder never holds half a message or one that was refused.
//!
//! Files are named after the unique part of their Message-ID, which sorts by time, and are readable by their owner
//! only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::outcome::DeliveryError;
use crate::message::{Message, content::Content};

/// What a check writes and takes away again: as much as a small message.
const CHECK_BYTES: usize = 4096;

/// How old an unfinished file must be to be removed: no delivery takes as long.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// The folder. It is created with the first message, and again when it was removed.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Touches nothing yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the unfinished files of processes that died while they wrote, and returns how many there were. For the
    /// start: it reads the whole folder. A folder that is not there has none.
    pub async fn tidy(&self) -> usize {
        let folder = self.path.clone();
        spawn_blocking(move || remove_abandoned(&folder)).await.unwrap_or_default()
    }

    /// Writes `message`; `Ok` when it is on the disk.
    ///
    /// # Errors
    /// [`DeliveryError::Store`] when nothing is left of it, [`DeliveryError::Unknown`] when the disk has not answered
    /// by `deadline`: it may still do what it was asked.
    pub async fn deliver(&self, message: &Message, deadline: Instant) -> Result<(), DeliveryError> {
        let folder = self.path.clone();
        let name = format!("{}.eml", message.id().unique());
        let content = message.content().clone();
        blocking(deadline, move || store(&folder, &name, &content)).await
    }

    /// Whether a message could be written now.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    pub async fn check(&self, deadline: Instant) -> Result<(), DeliveryError> {
        let folder = self.path.clone();
        blocking(deadline, move || {
            create(&folder)?;
            let file = hidden(&folder, &format!("check-{}", uuid::Uuid::new_v4().simple()));
            let written = write(&file, &vec![b'.'; CHECK_BYTES].into());
            let removed = fs::remove_file(&file);
            written.and(removed)
        })
        .await
    }
}

/// Runs `work` where it may block. Work that has begun goes on after the deadline.
async fn blocking(
    deadline: Instant,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), DeliveryError> {
    match timeout_at(deadline, spawn_blocking(work)).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(source))) => Err(DeliveryError::Store { source: Arc::new(source) }),
        Ok(Err(panicked)) => Err(DeliveryError::Unknown { cause: panicked.to_string() }),
        Err(_) => Err(DeliveryError::Unknown { cause: "the disk did not answer in time".to_owned() }),
    }
}

fn store(folder: &Path, name: &str, content: &Content) -> io::Result<()> {
    create(folder)?;
    // A message to two people is one file, written twice at the same time.
    let unique = format!("{name}.{}", uuid::Uuid::new_v4().simple());
    let unfinished = hidden(folder, &unique);
    let finished = folder.join(name);
    write(&unfinished, content).inspect_err(|_| remove(&unfinished))?;
    fs::rename(&unfinished, &finished).inspect_err(|_| remove(&unfinished))?;
    sync_folder(folder).inspect_err(|_| remove(&finished))
}

/// The name under which a file is written, which mail programs and `*.eml` pass over.
fn hidden(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.tmp"))
}

fn remove_abandoned(folder: &Path) -> usize {
    let is_abandoned = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        name.starts_with('.') && name.ends_with(".tmp") && age.is_some_and(|age| age > ABANDONED_AFTER)
    };
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| is_abandoned(path)).filter(|path| fs::remove_file(path).is_ok()).count()
}

/// Creates `folder` when it is missing, and makes sure that it stays.
fn create(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match folder.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        _ => Ok(()),
    }
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for chunk in content.chunks() {
        file.write_all(&chunk?)?;
    }
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Best effort: the error that led here is the one worth reporting.
fn remove(path: &Path) {
    let _gone_or_hopeless = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn hello() -> Content {
        b"hello".to_vec().into()
    }

    #[test]
    fn a_file_is_complete_private_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        store(&folder, "1.eml", &hello()).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["1.eml"]);
        assert_eq!(fs::read(folder.join("1.eml")).unwrap(), b"hello");
        assert_eq!(fs::metadata(folder.join("1.eml")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_message_that_cannot_be_renamed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // A folder that is not empty is in the way.
        fs::create_dir_all(dir.path().join("1.eml/x")).unwrap();
        store(dir.path(), "1.eml", &hello()).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_an_unknown_outcome() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let deadline = Instant::now() + std::time::Duration::from_millis(50);
        let result = blocking(deadline, move || released.recv().map_err(io::Error::other)).await;
        assert!(matches!(result, Err(DeliveryError::Unknown { .. })), "{result:?}");
        drop(release);
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        assert_eq!(Folder::new(dir.path().join("missing")).tidy().await, 0);
        let old = SystemTime::now() - 2 * ABANDONED_AFTER;
        for name in [".1.eml.tmp", ".2.eml.tmp", "3.eml", ".4"] {
            let file = File::create(dir.path().join(name)).unwrap();
            if name != ".2.eml.tmp" {
                file.set_modified(old).unwrap();
            }
        }
        assert_eq!(folder.tidy().await, 1);
        assert!(!dir.path().join(".1.eml.tmp").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "one that is being written stays");
    }

    #[tokio::test]
    async fn a_check_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("mail"));
        folder.check(Instant::now() + std::time::Duration::from_secs(60)).await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
