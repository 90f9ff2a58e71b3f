//! Reads of small files whose path comes from a configuration.
//!
//! A path may name a device without an end, or a named pipe that waits for its other end. Such files are not opened, and
//! of any other no more is read than the caller can use. A file system over the network may still hang: callers read
//! beside what must go on.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::OFlag;

/// Reads a file; `None` when it has more than `max_bytes`. Blocks.
///
/// # Errors
///
/// It cannot be read, or is no regular file.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    refuse_others(&fs::metadata(path)?)?;
    // Opened without waiting, as it may have become another kind of file since it was looked at.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    refuse_others(&file.metadata()?)?;
    let mut bytes = Vec::new();
    let count = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((count as u64 <= max_bytes).then_some(bytes))
}

fn refuse_others(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is no regular file")) }
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn what_has_no_end_or_waits_is_not_read_and_a_file_no_further_than_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for path in [Path::new("/dev/zero"), folder.path(), &pipe, Path::new("/does/not/exist")] {
            assert!(read(path, 10).is_err(), "{}", path.display());
        }
        let file = folder.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap().as_deref(), Some(&b"0123456789"[..]));
        assert_eq!(read(&file, 9).unwrap(), None);
    }
}
