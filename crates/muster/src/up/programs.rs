//! Finds what is to be run, before anything is.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The programs, each of which exists.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) registry: PathBuf,
    pub(crate) balance: PathBuf,
    pub(crate) mail: PathBuf,
    pub(crate) userlist: PathBuf,
}

/// What is missing, and how to get it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindProgramsError {
    #[error(
        "{names} not found in {}; build with `cargo build --release` (or `make run`, which builds and starts everything), \
         or say with --bin-dir where the programs are",
        folder.display()
    )]
    Service { names: String, folder: PathBuf },
    #[error(
        "etcd not found ({}); install it (Debian, Ubuntu: apt install etcd-server; Fedora: dnf install etcd; Alpine: apk \
         add etcd; macOS: brew install etcd; or https://github.com/etcd-io/etcd/releases), or say with --etcd where it is",
        wanted.display()
    )]
    Etcd { wanted: PathBuf },
}

// === impl Programs ===

impl Programs {
    /// Looks for the services in `folder` and for `etcd` on `path` (the variable `PATH`), or where it says if it names
    /// a folder.
    pub(crate) fn find(folder: &Path, etcd: &Path, path: Option<&OsStr>) -> Result<Self, FindProgramsError> {
        let programs = Self {
            etcd: find_etcd(etcd, path).ok_or_else(|| FindProgramsError::Etcd { wanted: etcd.to_owned() })?,
            registry: folder.join("registry"),
            balance: folder.join("balance"),
            mail: folder.join("mail"),
            userlist: folder.join("userlist"),
        };
        let services = [&programs.registry, &programs.balance, &programs.mail, &programs.userlist];
        let missing: Vec<String> = services
            .into_iter()
            .filter(|program| !is_program(program))
            .filter_map(|program| Some(program.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if missing.is_empty() {
            return Ok(programs);
        }
        Err(FindProgramsError::Service { names: missing.join(", "), folder: folder.to_owned() })
    }
}

fn find_etcd(etcd: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if etcd.components().count() > 1 {
        // Its working folder will be another one.
        return etcd.canonicalize().ok().filter(|program| is_program(program));
    }
    std::env::split_paths(path?).map(|folder| folder.join(etcd)).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(path: &Path) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn everything_that_is_missing_is_named_with_the_way_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        program(&dir.path().join("etcd"));
        program(&dir.path().join("mail"));
        fs::write(dir.path().join("balance"), "not executable").unwrap();
        let path = Some(dir.path().as_os_str());
        let error = Programs::find(dir.path(), Path::new("etcd"), path).unwrap_err().to_string();
        assert!(error.starts_with("registry, balance, userlist not found in"), "{error}");
        assert!(error.contains("cargo build --release") && error.contains("make run"), "{error}");
        let error = Programs::find(dir.path(), Path::new("etcd-9"), path).unwrap_err().to_string();
        assert!(error.contains("apt install etcd-server") && error.contains("--etcd"), "{error}");
    }

    #[test]
    fn etcd_is_found_on_the_path_and_the_services_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["etcd", "registry", "balance", "mail", "userlist"] {
            program(&dir.path().join(name));
        }
        let path = std::env::join_paths([Path::new("/nowhere"), dir.path()]).unwrap();
        let programs = Programs::find(dir.path(), Path::new("etcd"), Some(&path)).unwrap();
        assert_eq!(programs.etcd, dir.path().join("etcd"));
        assert_eq!(programs.mail, dir.path().join("mail"));
    }
}
