//! How many files, and so connections, the process may have open (`RLIMIT_NOFILE`, see `getrlimit(2)`).
//!
//! Many systems start a process with a soft limit of 1024, which is for those that still use `select`, and a hard limit up
//! to which everybody may raise it. A gateway needs two per request: one to the client, one to the instance.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and warns when that is too few for `connections_max`. The gateway starts anyway:
/// what it cannot open it refuses with `overloaded`.
pub(crate) fn raise(connections_max: usize) {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let needed = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_mul(2);
    match limit {
        Ok(limit) if limit < needed => {
            tracing::warn!(limit, needed, "too few open files for --connections-max; raise the limit or lower that");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
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
    }
}
