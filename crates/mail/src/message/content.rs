//! The bytes of a message or of a file: in memory while they are few, on the disk when they are many.
//!
//! What is large passes through a [`Spool`]: a file without a name, which is gone with the process however that ends.
//! Reading goes chunk by chunk, so that a message takes the same memory whatever it weighs, and waits for the disk
//! outside of the threads that everybody else needs.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{self, Read, Write},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::{SpooledData, SpooledTempFile};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// What is longer than this, in bytes, is on the disk: 512 KiB. Nearly all mail is shorter, and never touches a file.
pub const IN_MEMORY_MAX_BYTES: usize = 512 * 1024;

/// How much is read at once, in bytes.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// The folder in which large contents lie while they pass through.
#[derive(Debug, Clone)]
pub struct SpoolDir(Arc<Path>);

/// Bytes that are being written.
#[derive(Debug)]
pub struct Spool {
    file: SpooledTempFile,
    folder: SpoolDir,
}

/// Bytes that were written. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Content {
    source: Source,
    range: Range<u64>,
}

#[derive(Clone)]
enum Source {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>),
}

/// Reads a [`Content`] from its beginning.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    at: u64,
}

// === impl SpoolDir ===

impl SpoolDir {
    /// This folder. It is created with the first file.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(folder.into())
    }

    /// The system's folder for temporary files: `TMPDIR`, or `/var/tmp`, because `/tmp` is in memory on many systems.
    #[must_use]
    pub fn of_the_system() -> Self {
        Self::new(std::env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into()).into())
    }

    /// Whether a large content could be written now.
    ///
    /// # Errors
    /// It could not.
    pub fn check(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        tempfile::tempfile_in(&self.0)?.write_all(b"x")
    }

    /// Something new. It becomes a file only if it grows large.
    #[must_use]
    pub fn begin(&self) -> Spool {
        Spool { file: SpooledTempFile::new_in(IN_MEMORY_MAX_BYTES, &self.0), folder: self.clone() }
    }
}

// === impl Spool ===

impl Spool {
    /// What was written.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn finish(self) -> io::Result<Content> {
        match self.file.into_inner() {
            SpooledData::InMemory(bytes) => Ok(Content::from(bytes.into_inner())),
            SpooledData::OnDisk(file) => {
                let len = file.metadata()?.len();
                Ok(Content { source: Source::File(Arc::new(file)), range: 0..len })
            }
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            // The folder, when it becomes a file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.folder.0)?;
                self.file.write(bytes)
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

// === impl Content ===

impl Content {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, if they are in memory.
    #[must_use]
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory(bytes) => bytes.get(index(self.range.start)..index(self.range.end)),
            Source::File(_) => None,
        }
    }

    /// The part from `range.start` up to `range.end`, or as much of it as there is.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Self {
        let place = |offset: u64| self.range.start.saturating_add(offset).min(self.range.end);
        let start = place(range.start);
        let end = place(range.end);
        Self { source: self.source.clone(), range: start..end.max(start) }
    }

    /// Up to `max` bytes from `at` on; fewer only at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn chunk(&self, at: u64, max: usize) -> io::Result<Cow<'_, [u8]>> {
        let len = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX).min(max);
        let start = self.range.start.saturating_add(at);
        match &self.source {
            Source::Memory(bytes) => {
                let start = index(start);
                Ok(Cow::Borrowed(bytes.get(start..start.saturating_add(len)).unwrap_or_default()))
            }
            Source::File(file) => {
                let mut chunk = vec![0; len];
                waiting(|| file.read_exact_at(&mut chunk, start))?;
                Ok(Cow::Owned(chunk))
            }
        }
    }

    /// Chunk after chunk.
    pub fn chunks(&self) -> impl Iterator<Item = io::Result<Cow<'_, [u8]>>> {
        (0..self.len()).step_by(CHUNK_BYTES).map(|at| self.chunk(at, CHUNK_BYTES))
    }

    /// A reader of all of it.
    #[must_use]
    pub fn reader(&self) -> ContentReader {
        ContentReader { content: self.clone(), at: 0 }
    }

    /// Without the line end at its end, if it has one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn without_last_line_end(&self) -> io::Result<Self> {
        let before = self.len().saturating_sub(2);
        let ends = *self.chunk(before, 2)? == *b"\r\n";
        Ok(if ends { self.part(0..before) } else { self.clone() })
    }
}

/// Lets others go on while `work` waits for a disk.
pub(crate) fn waiting<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

/// What is in memory has a length that fits.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { source: Source::Memory(Arc::new(bytes)), range }
    }
}

/// No text of a message gets into a log.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Read for ContentReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.content.chunk(self.at, out.len())?;
        out[..chunk.len()].copy_from_slice(&chunk);
        self.at += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        Ok(chunk.len())
    }
}

#[cfg(test)]
impl Content {
    /// A file that has lost its end.
    pub(crate) fn broken(len: u64) -> Self {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(len / 2).expect("a length");
        Self { source: Source::File(Arc::new(file)), range: 0..len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(bytes: &[u8]) -> Content {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        let mut spool = SpoolDir::new(folder.clone()).begin();
        spool.write_all(bytes).unwrap();
        assert_eq!(folder.exists(), bytes.len() > IN_MEMORY_MAX_BYTES);
        let names = std::fs::read_dir(folder).into_iter().flatten().count();
        assert_eq!(names, 0, "a file has no name");
        spool.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_from_memory_as_from_the_disk() {
        for len in [0, 10, IN_MEMORY_MAX_BYTES, IN_MEMORY_MAX_BYTES + 1, 3 * IN_MEMORY_MAX_BYTES + 17] {
            let bytes: Vec<u8> = (0..len).map(|index| u8::try_from(index % 251).unwrap()).collect();
            let content = spooled(&bytes);
            assert_eq!(content.in_memory().is_some(), len <= IN_MEMORY_MAX_BYTES);
            assert_eq!(content.chunks().collect::<io::Result<Vec<_>>>().unwrap().concat(), bytes);
            let mut read = Vec::new();
            content.reader().read_to_end(&mut read).unwrap();
            assert!(read == bytes && content.is_empty() == bytes.is_empty());
        }
    }

    #[test]
    fn a_part_of_a_part_is_where_it_was() {
        for content in [Content::from(b"0123456789".to_vec()), spooled(&b"0123456789".repeat(100_000))] {
            let part = content.part(2..8).part(1..4);
            assert_eq!((part.len(), &*part.chunk(0, 100).unwrap()), (3, b"345".as_slice()));
            assert_eq!(&*part.chunk(2, 100).unwrap(), b"5");
            assert!(part.chunk(3, 100).unwrap().is_empty() && part.part(5..9).is_empty());
        }
    }

    #[test]
    fn only_the_last_line_end_is_left_out() {
        for (text, left) in [("", ""), ("\n", "\n"), ("a", "a"), ("a\r\n", "a"), ("a\r\n\r\n", "a\r\n"), ("\r\n", "")] {
            let content = Content::from(text.as_bytes().to_vec()).without_last_line_end().unwrap();
            assert_eq!(content.in_memory(), Some(left.as_bytes()), "{text:?}");
        }
    }
}
