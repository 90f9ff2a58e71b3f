//! The fields of one object of a table, taken one after the other: so every mistake is reported at once, each with its path.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use service_kit::duration;

use super::mistake::{Mistake, unquoted_of};

/// What is left of an object, where it stands, and what was wrong with it so far.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: String,
    line: usize,
    rest: Map<String, Value>,
    mistakes: &'a mut Vec<Mistake>,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Of `value` at `path`; `None`, and a mistake, when that is no object.
    pub(super) fn of(value: Value, path: String, line: usize, mistakes: &'a mut Vec<Mistake>) -> Option<Self> {
        let Value::Object(rest) = value else {
            mistakes.push(Mistake { line: Some(line), path, reason: "is not an object".to_owned() });
            return None;
        };
        Some(Self { path, line, rest, mistakes })
    }

    /// Says that something is wrong with the field `name`.
    pub(super) fn blame(&mut self, name: &str, reason: impl Into<String>) {
        let mistake = Mistake { line: Some(self.line), path: self.path_of(name), reason: reason.into() };
        self.mistakes.push(mistake);
    }

    /// The path of a field.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// The line on which the instance begins.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Where mistakes go.
    pub(super) fn mistakes(&mut self) -> &mut Vec<Mistake> {
        self.mistakes
    }

    /// The value of a field, if it is there.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.rest.remove(name)
    }

    /// A field that may be absent.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.value(name)?;
        serde_json::from_value(value).map_err(|error| self.blame(name, unquoted_of(&error))).ok()
    }

    /// A field that must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.rest.contains_key(name) {
            self.blame(name, "is missing");
        }
        self.take(name)
    }

    /// A duration with its unit, within these bounds.
    pub(super) fn duration(
        &mut self,
        name: &str,
        default: std::time::Duration,
        bounds: std::ops::RangeInclusive<std::time::Duration>,
    ) -> std::time::Duration {
        let Some(text) = self.take::<String>(name) else { return default };
        match duration::parse(&text) {
            Ok(given) if bounds.contains(&given) => given,
            Ok(_) => {
                let bounds = [*bounds.start(), *bounds.end()].map(duration::format);
                self.blame(name, format!("is out of range; give {} to {}", bounds[0], bounds[1]));
                default
            }
            Err(reason) => {
                // A bare number may be quoted; what else stands there may be anything.
                let is_number = text.trim().parse::<f64>().is_ok();
                let general = "is no duration; write for example \"2s\", \"500ms\" or \"1m 30s\"".to_owned();
                self.blame(name, if is_number { reason } else { general });
                default
            }
        }
    }

    /// All fields have been taken; those that are left are not known.
    pub(super) fn end(mut self, known: &str) {
        for name in std::mem::take(&mut self.rest).keys() {
            let shown: String = name.chars().take(64).collect();
            self.blame(&shown, format!("is not known here; the fields are {known}"));
        }
    }
}
