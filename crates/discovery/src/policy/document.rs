use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

use super::Policy;
use crate::FieldError;

/// What `config/<service>` says: the part of a [`Policy`] that differs from the gateway's default.
///
/// Read with `parse`, written with `Display` (one line of JSON), put over a default with [`PolicyDocument::over`]. A
/// document that was read is free of mistakes, whatever default within the ranges it is put over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyDocument(Map<String, Value>);

// === impl PolicyDocument ===

impl PolicyDocument {
    /// The largest document.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// Its first mistake; the field is the path in the document, `.` for the whole.
    pub fn parse(json: &[u8]) -> Result<Self, FieldError> {
        if json.len() > Self::MAX_BYTES {
            return Err(FieldError::new(".", format!("has {} bytes; {} are allowed", json.len(), Self::MAX_BYTES)));
        }
        let value: Value = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
        let Value::Object(members) = value else { return Err(not_an_object(".", &value)) };
        let document = Self(members);
        document.over(&Policy::default())?;
        Ok(document)
    }

    /// The policy that this makes of a default.
    ///
    /// # Errors
    ///
    /// The first mistake, as for [`PolicyDocument::parse`]; after that only if `default` itself has one.
    pub fn over(&self, default: &Policy) -> Result<Policy, FieldError> {
        let mut whole = serde_json::to_value(default).map_err(|error| not_json(&error))?;
        merge(&mut whole, &self.0, "")?;
        let policy: Policy = serde_path_to_error::deserialize(whole).map_err(|error| {
            let path = error.path().to_string();
            named(&path, &error.into_inner().to_string())
        })?;
        policy.check()?;
        Ok(policy)
    }
}

/// Objects that may be absent: a document's takes the place of the default's as a whole, and `null` takes it away.
const OPTIONAL: [&str; 4] = ["auth", "hedge", "load_balancing.hash_on", "load_balancing.sticky"];

/// The fields that take a list.
const LISTS: [&str; 11] = [
    "auth.forward.pass",
    "auth.jwt.audiences",
    "auth.jwt.scopes",
    "auth.networks.allow",
    "auth.networks.deny",
    "auth.public_paths",
    "cors.expose",
    "cors.headers",
    "cors.methods",
    "cors.origins",
    "rate_limit",
];

/// Puts the members of `over` into `under`, section by section.
fn merge(under: &mut Value, over: &Map<String, Value>, path: &str) -> Result<(), FieldError> {
    let Value::Object(under) = under else { return Ok(()) };
    for (name, value) in over {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        refuse_lists(&path, value)?;
        match (under.get_mut(name), value) {
            _ if OPTIONAL.contains(&path.as_str()) => drop(under.insert(name.clone(), value.clone())),
            (Some(section @ Value::Object(_)), Value::Object(members)) => merge(section, members, &path)?,
            (Some(Value::Object(_)), other) => return Err(not_an_object(&path, other)),
            (_, value) => drop(under.insert(name.clone(), value.clone())),
        }
    }
    Ok(())
}

/// Refuses a list where an object or a value belongs: serde would take it for the object's members in their order.
fn refuse_lists(path: &str, value: &Value) -> Result<(), FieldError> {
    match value {
        Value::Array(_) if !LISTS.contains(&path) => {
            Err(FieldError::new(path.to_owned(), "is a list, which this field does not take"))
        }
        Value::Array(items) => items.iter().try_for_each(|item| refuse_lists(&format!("{path}[]"), item)),
        Value::Object(members) => {
            members.iter().try_for_each(|(name, value)| refuse_lists(&format!("{path}.{name}"), value))
        }
        _ => Ok(()),
    }
}

fn not_json(error: &serde_json::Error) -> FieldError {
    FieldError::new(".", format!("is not JSON: {error}"))
}

fn not_an_object(path: &str, value: &Value) -> FieldError {
    let what = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    FieldError::new(path.to_owned(), format!("is {what}; give an object, {{\"name\": value}}"))
}

/// serde names an unknown field in its message only, in some places.
fn named(path: &str, message: &str) -> FieldError {
    let unknown = ["unknown field `", "missing field `"].iter().find_map(|start| message.strip_prefix(start));
    let name = unknown.and_then(|rest| rest.split('`').next());
    let path = match (path, name) {
        ("." | "?", Some(name)) => name.to_owned(),
        (path, Some(name)) if path.rsplit('.').next() != Some(name) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    };
    FieldError::new(path, message.to_owned())
}

impl FromStr for PolicyDocument {
    type Err = FieldError;

    fn from_str(json: &str) -> Result<Self, FieldError> {
        Self::parse(json.as_bytes())
    }
}

impl fmt::Display for PolicyDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::Object(self.0.clone()).fmt(f)
    }
}

#[cfg(test)]
mod tests;
