//! What proves to etcd who we are, read again when it is refused.
//!
//! Certificates and passwords in files are renewed while we run. A connection that is open keeps what it was made with;
//! one that is refused, or breaks, is the moment to look: after every failure the files are compared with what was read
//! before, and if they differ, members get new clients. So a renewed certificate costs one failed attempt at most, and
//! nothing looks at files while all is well.
//!
//! A new version that cannot be used changes nothing: what was read before stays, and one warning says why.

use std::{
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::client::options::{ConfigError, EtcdOptions, Settings};

/// Thousands of calls may fail at the same time; the files are looked at once in this time.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The options, and what their files said last.
#[derive(Debug)]
pub(crate) struct Access {
    options: EtcdOptions,
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    contents: Vec<Option<Vec<u8>>>,
    generation: u64,
    looked: Option<Instant>,
    complaint: Option<String>,
}

// === impl Access ===

impl Access {
    /// Reads the files for the first time.
    pub(crate) fn new(options: &EtcdOptions) -> Result<Self, ConfigError> {
        // First of all, so that a change in between is seen as one.
        let contents = contents(options);
        let settings = options.settings()?;
        let state = State { settings, contents, generation: 0, looked: None, complaint: None };
        Ok(Self { options: options.clone(), state: Mutex::new(state) })
    }

    /// What to connect with now, and which version of it that is.
    pub(crate) fn settings(&self) -> (Settings, u64) {
        let state = self.state();
        (state.settings.clone(), state.generation)
    }

    /// Counts the versions that were used.
    pub(crate) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Something was refused or broke at `now`: looks whether the files are still what was read.
    pub(crate) fn reload_if_changed(&self, now: Instant) {
        let mut state = self.state();
        if state.looked.is_some_and(|looked| now < looked + LOOK_PAUSE) {
            return;
        }
        state.looked = Some(now);
        let contents = contents(&self.options);
        if contents == state.contents {
            return;
        }
        match self.options.settings() {
            Ok(settings) => {
                state.settings = settings;
                state.contents = contents;
                state.generation += 1;
                state.complaint = None;
                info!("the files with etcd's certificates or password have changed and are read again");
            }
            Err(error) => {
                let error = error.to_string();
                if state.complaint.as_ref() != Some(&error) {
                    warn!(error, "the files with etcd's certificates or password have changed and cannot be used");
                    state.complaint = Some(error);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// What is in the files that the options name; `None` for one that cannot be read now.
fn contents(options: &EtcdOptions) -> Vec<Option<Vec<u8>>> {
    let EtcdOptions { etcd_password_file, etcd_ca_file, etcd_cert_file, etcd_key_file, .. } = options;
    let named = [etcd_password_file, etcd_ca_file, etcd_cert_file, etcd_key_file].into_iter().flatten();
    named.map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_password_counts_at_the_next_refusal_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "old\n").unwrap();
        let options = EtcdOptions {
            etcd_user: Some("muster".into()),
            etcd_password_file: Some(path.clone()),
            ..EtcdOptions::default()
        };
        let access = Access::new(&options).unwrap();
        let password = || access.settings().0.user.map(|(_, password)| password.expose().to_owned());
        let start = Instant::now();
        access.reload_if_changed(start);
        assert_eq!(access.generation(), 0, "nothing has changed");
        fs::write(&path, "new\n").unwrap();
        access.reload_if_changed(start + LOOK_PAUSE / 2);
        assert_eq!(password().unwrap(), "old", "not looked at again so soon");
        access.reload_if_changed(start + LOOK_PAUSE);
        assert_eq!((password().unwrap().as_str(), access.generation()), ("new", 1));
        fs::remove_file(&path).unwrap();
        access.reload_if_changed(start + 2 * LOOK_PAUSE);
        assert_eq!((password().unwrap().as_str(), access.generation()), ("new", 1));
    }
}
