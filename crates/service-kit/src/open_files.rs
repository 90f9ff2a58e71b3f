//! How many files, and so connections, the process may have open (`RLIMIT_NOFILE`, see `getrlimit(2)`).
//!
//! Many systems start a process with a soft limit of 1024, which is for those that still use `select`, and a hard limit
//! up to which every process may raise it.

use std::io;

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Raises the soft limit to the hard one, and warns when that is less than `needed`. The server starts anyway: without
/// a file for a new connection, it closes one that waits.
pub fn raise(needed: usize) {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    match limit {
        Ok(limit) if limit < needed => {
            tracing::warn!(limit, needed, "too few open files for --connections-max; raise the limit or lower that");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Whether a new connection failed because the process, or the system, has no file left.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_allowed_may_be_open() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(256), hard).unwrap();
        raise(1);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        assert!(is_exhausted(&Errno::EMFILE.into()) && !is_exhausted(&Errno::ECONNABORTED.into()));
    }
}
