//! Settings: values below `config/`, written only over what the writer has seen.

use discovery::{CONFIG_PREFIX, Revision, SettingKey};
use etcd_client::{GetOptions, GetResponse, KeyValue, TxnOp};

use crate::{
    client::{
        error::{CallError, EtcdError},
        etcd::Etcd,
        failure::Failure,
        member::ClientExt,
    },
    keys::compare_and_swap::Outcome,
};

/// How often a write without a condition starts again because another client wrote in between.
const ROUNDS: usize = 8;

/// A setting as it stands in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its text; what is not UTF-8 is replaced.
    pub value: String,
    /// When it came into being.
    pub created: Revision,
    /// When it was last written: what the next writer compares with.
    pub modified: Revision,
    /// How often it was written since it came into being.
    pub version: i64,
}

/// What a writer has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing, or it does not matter.
    Anything,
    /// That there is something.
    Something,
    /// That there is nothing.
    Absent,
    /// The setting as it was last written then.
    At(Revision),
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It is as wanted from this revision on; for a deletion of what was not there, `None`.
    Done(Option<Revision>),
    /// It is not as expected, but was last written then (`None`: is not there). Nothing was written.
    Differs(Option<Revision>),
}

// === impl Etcd ===

impl Etcd {
    /// Reads a setting, linearizably; as it was at revision `at`, if given. With the revision at which that is true.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Setting`]; see [`EtcdError::is_compacted`] for an `at` that is no longer kept.
    pub async fn setting(
        &self,
        key: &SettingKey,
        at: Option<Revision>,
    ) -> Result<(Revision, Option<Setting>), EtcdError> {
        let path = key.key();
        let options = at.map(|at| GetOptions::new().with_revision(at.0));
        let response = self.call(self.deadline(), |client| {
            let mut kv = client.kv();
            let path = path.clone();
            let options = options.clone();
            async move { kv.get(path, options).await }
        });
        let response = response.await.map_err(|error| failed(key)(error.about(CONFIG_PREFIX)))?;
        Ok((revision(&response), response.kvs().first().map(Setting::from)))
    }

    /// Every setting, at one revision. Keys that we would not write are left out.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Settings`].
    pub async fn settings(&self) -> Result<(Revision, Vec<(SettingKey, Setting)>), EtcdError> {
        let response = self.call(self.deadline(), |client| {
            let mut kv = client.kv();
            async move { kv.get(CONFIG_PREFIX, Some(GetOptions::new().with_prefix())).await }
        });
        let response = response.await.map_err(|source| EtcdError::Settings { source: source.about(CONFIG_PREFIX) })?;
        let settings = response.kvs().iter().filter_map(|kv| Some((SettingKey::parse(kv.key()).ok()?, kv.into())));
        Ok((revision(&response), settings.collect()))
    }

    /// Writes a setting, if it is as expected.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Setting`]: it is unknown whether it was written. The same call again is harmless, but may then find
    /// what it wrote itself.
    pub async fn put_setting(&self, key: &SettingKey, value: &str, expected: Expected) -> Result<Write, EtcdError> {
        self.change(key, expected, |path| TxnOp::put(path, value, None), Some(value)).await
    }

    /// Deletes a setting, if it is as expected.
    ///
    /// # Errors
    ///
    /// As [`Etcd::put_setting`].
    pub async fn delete_setting(&self, key: &SettingKey, expected: Expected) -> Result<Write, EtcdError> {
        self.change(key, expected, |path| TxnOp::delete(path, None), None).await
    }

    async fn change(
        &self,
        key: &SettingKey,
        expected: Expected,
        change: impl Fn(&str) -> TxnOp,
        wanted: Option<&str>,
    ) -> Result<Write, EtcdError> {
        let path = key.key();
        let deadline = self.deadline();
        for _ in 0..ROUNDS {
            let seen = match expected {
                Expected::Absent => None,
                Expected::At(revision) => Some(revision),
                Expected::Anything | Expected::Something => {
                    let current = self.read(&path, deadline).await.map_err(failed(key))?;
                    match current.map(|current| current.modified) {
                        None if expected == Expected::Something => return Ok(Write::Differs(None)),
                        None if wanted.is_none() => return Ok(Write::Done(None)),
                        modified => modified,
                    }
                }
            };
            match self.swap(&path, seen, vec![change(&path)], deadline).await.map_err(failed(key))? {
                Outcome::Done(revision) => return Ok(Write::Done(Some(revision))),
                Outcome::Changed(..) if matches!(expected, Expected::Anything | Expected::Something) => {}
                Outcome::Changed(current, _) => return Ok(Write::Differs(current.map(|current| current.modified))),
            }
        }
        Err(failed(key)(CallError::Contended))
    }
}

fn revision(response: &GetResponse) -> Revision {
    Revision(response.header().map_or(0, |header| header.revision()))
}

fn failed(key: &SettingKey) -> impl FnOnce(CallError) -> EtcdError {
    move |source| EtcdError::Setting { key: key.clone(), source }
}

// === impl EtcdError ===

impl EtcdError {
    /// Whether a revision was asked for that etcd no longer keeps.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Setting { source, .. } if matches!(source.refusal(), Some(Failure::Compacted)))
    }
}

impl From<&KeyValue> for Setting {
    fn from(kv: &KeyValue) -> Self {
        Self {
            value: String::from_utf8_lossy(kv.value()).into_owned(),
            created: Revision(kv.create_revision()),
            modified: Revision(kv.mod_revision()),
            version: kv.version(),
        }
    }
}
