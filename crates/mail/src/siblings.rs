//! Whether the instances of mail know each other's messages: whether they share one outbox.
//!
//! With SQLite they do when they have one file on one host. Otherwise each knows only what it took in itself: behind
//! the gateway, a message is found at every other request, and a repeated `Idempotency-Key` sends a message twice. No
//! operator would see that in a log, so each instance announces which outbox it has, and one with a file looks whether
//! another has another.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
    time::Duration,
};

use discovery::ServiceName;
use heartbeat::{HeartbeatOptions, Neighbour, State, neighbours};
use ring::digest::{SHA256, digest};
use tokio::{sync::watch, time::sleep};

use crate::outbox::DatabaseTarget;

/// What of an instance's announcement tells one outbox from another.
pub(crate) const META: &str = "outbox";
/// Between two looks. An instance that is started later looks, too, and at once.
const PERIOD: Duration = Duration::from_secs(30);

/// Which outbox `target` is, in twelve hexadecimal digits: two instances have the same only if they share it. `None`
/// when that cannot be told.
pub(crate) fn identity(target: &DatabaseTarget) -> Option<String> {
    let text = match target {
        DatabaseTarget::Mysql(_) => target.to_string().to_ascii_lowercase(),
        DatabaseTarget::Sqlite(file) => of_file(target.folder()?, file).ok()?,
    };
    Some(hex::encode(&digest(&SHA256, text.as_bytes()).as_ref()[..6]))
}

/// This start of this kernel, the folder as that kernel knows it (whatever it is called in a container), and the file's
/// name.
fn of_file(folder: &Path, file: &Path) -> std::io::Result<String> {
    // Only an existing folder has a number; the outbox would create it a moment later.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let folder = fs::metadata(folder)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let name = file.file_name().unwrap_or_default();
    Ok(format!("{} {} {} {}", kernel.trim(), folder.dev(), folder.ino(), name.display()))
}

/// Looks, once this instance is registered, whether another one has another outbox than `own`, until one does; says so
/// once.
pub(crate) async fn watch(
    options: HeartbeatOptions,
    service: ServiceName,
    own: String,
    mut state: watch::Receiver<State>,
) {
    if state.wait_for(|state| state.registered).await.is_err() {
        return;
    }
    loop {
        let listed = neighbours(&options, &service).await.unwrap_or_default();
        if let Some(other) = with_another(&listed, &own) {
            let instance = other.id.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                instance,
                address = %other.address,
                "another instance of mail has an outbox of its own: each knows only the messages that it took in itself, so \
                 that a message is not found, and an Idempotency-Key not known, at the other; give all instances one MySQL \
                 database with --outbox-url (MAIL_OUTBOX_URL)"
            );
            return;
        }
        sleep(PERIOD).await;
    }
}

/// The first instance that says that it has another outbox; one that says nothing is of an older version.
fn with_another<'a>(listed: &'a [Neighbour], own: &str) -> Option<&'a Neighbour> {
    listed.iter().find(|instance| instance.meta.get(META).is_some_and(|outbox| outbox != own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> String {
        identity(&DatabaseTarget::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn one_file_is_one_outbox_by_whatever_path_and_another_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        std::os::unix::fs::symlink(&folder, dir.path().join("link")).unwrap();
        let url = |path: &str| format!("sqlite:{}/{path}", dir.path().display());
        let one = of(&url("a/outbox.db"));
        assert_eq!(one.len(), 12);
        assert_eq!(of(&url("link/outbox.db")), one);
        for other in ["a/other.db", "b/outbox.db"] {
            assert_ne!(of(&url(other)), one, "{other}");
        }
        assert_eq!(of("mysql://u:secret@DB/mail"), of("mysql://v@db:3306/mail"));
        assert_ne!(of("mysql://u@db/mail"), of("mysql://u@db/other"));
    }

    #[test]
    fn only_who_says_that_it_has_another_outbox_has_one() {
        let listed = |outbox: Option<&str>| -> Neighbour {
            let meta = outbox.map(|outbox| (META.to_owned(), outbox.to_owned())).into_iter().collect();
            Neighbour { id: None, address: "127.0.0.1:7070".parse().unwrap(), meta }
        };
        assert_eq!(with_another(&[listed(None), listed(Some("own"))], "own"), None);
        assert!(with_another(&[listed(Some("own")), listed(Some("other"))], "own").is_some());
    }
}
