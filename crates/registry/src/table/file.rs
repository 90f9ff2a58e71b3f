//! The file of a table, read again when it changes.
//!
//! It is small, so it is simply read every half second and compared with what was read before: that works alike for an
//! editor that writes in place, for one that renames, and for the links to links of an orchestrator's mounted files. A
//! change counts once two looks have found it the same: half of a TOML file can be a file without mistakes, and what is
//! missing in it would be deregistered.
//!
//! Looking may block, so it is done beside everything else. A version with a mistake changes nothing: the last good one
//! stays in force, and what is wrong is reported.

mod reader;

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use self::reader::{Found, Reader};
use super::{
    document::Table,
    mistake::{Mistake, Mistakes},
};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// What is in force, and what is wrong with the file now.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) table: Arc<Table>,
    /// Of the newest version, if that is not the one in force.
    pub(super) mistakes: Arc<[Mistake]>,
}

/// Follows the file.
#[derive(Debug)]
pub(super) struct TableFile {
    reader: Reader,
    /// The version that was settled last, good or not.
    settled: Found,
    /// A version that was seen once.
    fresh: Option<Found>,
    loaded: watch::Sender<Loaded>,
}

/// There is no table to begin with.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {}", .path.display(), Mistakes(.mistakes))]
pub struct TableError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub mistakes: Vec<Mistake>,
}

// === impl TableFile ===

impl TableFile {
    /// Reads the first version.
    ///
    /// # Errors
    ///
    /// It has mistakes: at a start, those are to be reported at once.
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let refused = |mistakes| TableError { path: path.to_owned(), mistakes };
        let mut reader = Reader::new(path);
        let bytes = reader.read().map_err(refused)?;
        let table = Arc::new(parse(path, &bytes).map_err(refused)?);
        let loaded = watch::Sender::new(Loaded { table, mistakes: Arc::default() });
        Ok(Self { reader, settled: Ok(bytes), fresh: None, loaded })
    }

    /// What is in force, now and later.
    pub(super) fn subscribe(&self) -> watch::Receiver<Loaded> {
        self.loaded.subscribe()
    }

    /// Goes on for as long as it is polled.
    pub(super) async fn follow(mut self) -> Infallible {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self = spawn_blocking(move || {
                self.look();
                self
            })
            .await
            .expect("a look does not panic");
        }
    }

    /// Blocks, for as long as the reader may.
    fn look(&mut self) {
        let found = self.reader.read();
        if found == self.settled {
            self.fresh = None;
        } else if self.fresh.as_ref() == Some(&found) {
            self.fresh = None;
            self.settled = found;
            self.take();
        } else {
            self.fresh = Some(found);
        }
    }

    fn take(&self) {
        let path = self.reader.path().display();
        match self.settled.clone().and_then(|bytes| parse(self.reader.path(), &bytes)) {
            Ok(table) => {
                tracing::info!(%path, instances = table.entries.len(), "table of services read again, because its file changed");
                self.loaded.send_replace(Loaded { table: Arc::new(table), mistakes: Arc::default() });
            }
            Err(mistakes) => {
                let listed = Mistakes(&mistakes);
                tracing::warn!(%path, mistakes = %listed, "table of services has mistakes; its previous version stays in force");
                self.loaded.send_modify(|loaded| loaded.mistakes = mistakes.into());
            }
        }
    }
}

/// What is in the file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Vec<Mistake>> {
    Reader::new(path).read()
}

/// What these bytes say.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Table, Vec<Mistake>> {
    let text = std::str::from_utf8(bytes).map_err(|_| vec![Mistake::of_file("it is not UTF-8 text")])?;
    Table::parse(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"instances":[{"service":"a","address":"a:1"}]}"#;

    struct Sample {
        folder: tempfile::TempDir,
        file: TableFile,
        loaded: watch::Receiver<Loaded>,
    }

    impl Sample {
        fn new(name: &str, text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
            let file = TableFile::open(&folder.path().join(name)).unwrap();
            Self { loaded: file.subscribe(), file, folder }
        }

        fn state(&mut self, looks: usize) -> (usize, usize) {
            (0..looks).for_each(|_| self.file.look());
            let loaded = self.loaded.borrow();
            (loaded.table.entries.len(), loaded.mistakes.len())
        }
    }

    #[test]
    fn a_mistake_keeps_the_last_good_version_and_is_reported_until_it_is_mended() {
        let mut sample = Sample::new("t.json", ONE);
        let path = sample.folder.path().join("t.json");
        assert_eq!(sample.state(3), (1, 0));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(sample.state(2), (1, 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(sample.state(2), (1, 1));
        assert!(sample.loaded.borrow().mistakes[0].to_string().contains("cannot be read"));
        std::fs::write(&path, ONE).unwrap();
        assert_eq!(sample.state(2), (1, 0));
        std::fs::write(&path, r#"{"instances":[]}"#).unwrap();
        assert_eq!(sample.state(2), (0, 0));
    }

    #[test]
    fn a_version_that_is_still_being_written_does_not_count() {
        let whole = "[[instances]]\nservice = 'a'\naddress = 'a:1'\n[[instances]]\nservice = 'b'\naddress = 'b:1'\n";
        let mut sample = Sample::new("t.toml", whole);
        let path = sample.folder.path().join("t.toml");
        let (half, _) = whole.split_once("[[instances]]\nservice = 'b'").unwrap();
        std::fs::write(&path, half).unwrap();
        assert_eq!(sample.state(1), (2, 0), "seen once");
        std::fs::write(&path, format!("{whole}# end\n")).unwrap();
        assert_eq!(sample.state(2), (2, 0));
        std::fs::write(&path, "").unwrap();
        assert_eq!(sample.state(2), (2, 1), "an empty file is a mistake");
    }

    #[test]
    fn links_to_links_are_followed_when_they_are_exchanged() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", ONE), ("v2", r#"{"instances":[]}"#)] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("t.json"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/t.json", at("t.json")).unwrap();
        let mut file = TableFile::open(&at("t.json")).unwrap();
        let loaded = file.subscribe();
        std::os::unix::fs::symlink("v2", at("..next")).unwrap();
        std::fs::rename(at("..next"), at("..data")).unwrap();
        file.look();
        file.look();
        assert_eq!(loaded.borrow().table.entries.len(), 0);
    }

    #[test]
    fn a_first_version_with_mistakes_is_an_error_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        assert!(TableFile::open(&path).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&path, r#"{"instances":[{},{"service":"a"}]}"#).unwrap();
        let listed = TableFile::open(&path).unwrap_err().to_string();
        assert!(listed.contains("instances[0].service: is missing; line 1: instances[0].address"), "{listed}");
        std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert!(TableFile::open(&path).unwrap_err().to_string().contains("more than 1048576 bytes"));
    }
}
