//! The environment of a process, as a value: read once, handed on, made up in tests.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

/// Variables and their values.
pub(crate) type Environment = BTreeMap<OsString, OsString>;

/// Sets a variable that is absent or empty; both mean the same to our services.
pub(crate) fn set_unless_given(environment: &mut Environment, name: &str, value: impl Into<OsString>) {
    if !is_given(environment, name) {
        environment.insert(name.into(), value.into());
    }
}

/// Whether a variable has a value.
pub(crate) fn is_given(environment: &Environment, name: &str) -> bool {
    environment.get(OsStr::new(name)).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
pub(crate) fn sample(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}
