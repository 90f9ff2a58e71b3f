//! What is in the file, or that it cannot be read in time.
//!
//! A file system over the network may hang for good, and a named pipe waits for its other end. So a thread reads, one at
//! most: while it hangs no other is started, and what it finds counts when it is back.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use service_kit::regular_file;

use crate::table::mistake::Mistake;

/// The largest file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// The bytes of a version, or why there are none.
pub(super) type Found = Result<Vec<u8>, Vec<Mistake>>;

/// Reads one file, again and again.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    /// From the thread that has not come back.
    pending: Option<Receiver<Found>>,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), pending: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Blocks for [`DEADLINE`] at most.
    pub(super) fn read(&mut self) -> Found {
        let path = self.path.clone();
        self.read_by(DEADLINE, move || contents(&path))
    }

    fn read_by(&mut self, limit: Duration, read: impl FnOnce() -> Found + Send + 'static) -> Found {
        let pending = match self.pending.take() {
            Some(pending) => pending,
            None => begin(read).map_err(|error| cannot(&error.to_string()))?,
        };
        match pending.recv_timeout(limit) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => {
                self.pending = Some(pending);
                Err(cannot(&format!("its file system has not answered within {limit:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(cannot("reading ended unexpectedly")),
        }
    }
}

fn begin(read: impl FnOnce() -> Found + Send + 'static) -> io::Result<Receiver<Found>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = "table-file".to_owned();
    thread::Builder::new().name(name).spawn(move || sender.send(read()))?;
    Ok(receiver)
}

fn contents(path: &Path) -> Found {
    let bytes = regular_file::read(path, FILE_MAX_BYTES).map_err(|error| cannot(&error.to_string()))?;
    bytes.ok_or_else(|| vec![Mistake::of_file(format!("it has more than {FILE_MAX_BYTES} bytes"))])
}

fn cannot(why: &str) -> Vec<Mistake> {
    vec![Mistake::of_file(format!("it cannot be read: {why}"))]
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("t.json");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/null")] {
            let mistakes = Reader::new(path).read().unwrap_err();
            assert_eq!(mistakes[0].reason, "it cannot be read: it is no regular file", "{path:?}");
        }
    }

    #[test]
    fn a_look_that_hangs_is_a_mistake_and_no_other_begins_until_it_is_back() {
        let mut reader = Reader::new(Path::new("/t.json"));
        let (answer, hanging) = mpsc::channel::<()>();
        let short = Duration::from_millis(20);
        let hangs = move || hanging.recv().map(|()| b"late".to_vec()).map_err(|_| Vec::new());
        let mistakes = reader.read_by(short, hangs).unwrap_err();
        assert!(mistakes[0].reason.starts_with("it cannot be read: its file system has not answered"), "{mistakes:?}");
        assert!(reader.read_by(short, || Ok(b"second".to_vec())).is_err());
        answer.send(()).unwrap();
        assert_eq!(reader.read_by(DEADLINE, || Ok(b"third".to_vec())), Ok(b"late".to_vec()));
        assert_eq!(reader.read_by(DEADLINE, || Ok(b"fourth".to_vec())), Ok(b"fourth".to_vec()));
    }
}
