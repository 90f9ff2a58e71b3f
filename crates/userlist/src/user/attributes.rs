use std::fmt;

use discovery::FieldError;
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// What else is known about a user: any JSON object within bounds.
///
/// At most [`Attributes::MAX_BYTES`] when written without spaces, keys of at most [`Attributes::KEY_MAX_CHARS`], and
/// [`Attributes::MAX_DEPTH`] levels. Numbers are those of 64 bits: integers from -2^63 to 2^64 - 1, and binary64
/// between these. A member whose value is `null` is none: in a merge patch it removes one.
#[derive(Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Attributes(Map<String, Value>);

// Numbers that are not equal to themselves are not JSON.
impl Eq for Attributes {}

// === impl Attributes ===

impl Attributes {
    /// The most bytes, as JSON: 8 KiB.
    pub const MAX_BYTES: usize = 8 * 1024;
    /// The most characters of a key, on any level.
    pub const KEY_MAX_CHARS: usize = 64;
    /// The most objects and lists within each other, this one included.
    pub const MAX_DEPTH: usize = 8;

    /// These, when they are within bounds; without members that are `null`.
    ///
    /// # Errors
    /// They are not.
    pub fn new(attributes: Map<String, Value>) -> Result<Self, FieldError> {
        Self::default().merged(attributes)
    }

    /// These with a merge patch applied (RFC 7396): members replace those of the same name, objects are merged, and
    /// `null` removes.
    ///
    /// # Errors
    /// The result is not within bounds.
    pub fn merged(&self, patch: Map<String, Value>) -> Result<Self, FieldError> {
        let mut merged = self.0.clone();
        // Before the patch is walked through.
        check_depth(&patch, 1)?;
        merge(&mut merged, patch);
        let bytes = serde_json::to_string(&merged).map_or(usize::MAX, |json| json.len());
        if bytes > Self::MAX_BYTES {
            return Err(refused(format!("they have {bytes} bytes as JSON, {} are allowed", Self::MAX_BYTES)));
        }
        Ok(Self(merged))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes attributes that were written through this type before: out of the database.
    pub(crate) fn stored(attributes: Map<String, Value>) -> Self {
        Self(attributes)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attributes(…)")
    }
}

fn refused(reason: impl Into<String>) -> FieldError {
    FieldError::new("attributes", reason)
}

fn check_depth(object: &Map<String, Value>, depth: usize) -> Result<(), FieldError> {
    if let Some(key) = object.keys().find(|key| key.chars().count() > Attributes::KEY_MAX_CHARS) {
        return Err(refused(format!("a key has {} characters, 64 are allowed", key.chars().count())));
    }
    object.values().try_for_each(|value| check_value(value, depth + 1))
}

fn check_value(value: &Value, depth: usize) -> Result<(), FieldError> {
    match value {
        Value::Object(_) | Value::Array(_) if depth > Attributes::MAX_DEPTH => {
            Err(refused(format!("they have more than {} levels", Attributes::MAX_DEPTH)))
        }
        Value::Object(object) => check_depth(object, depth),
        Value::Number(number) if is_rounded(number) => {
            Err(refused("a number does not fit into 64 bits, and would be stored as another one; write it as a string"))
        }
        Value::Array(list) => list.iter().try_for_each(|value| check_value(value, depth + 1)),
        _ => Ok(()),
    }
}

/// Whether a number may be another one than was written: what is read as no integer of 64 bits is read as the next
/// binary64 (RFC 8259, section 6).
fn is_rounded(number: &Number) -> bool {
    const INTEGERS_END: f64 = 18_446_744_073_709_551_616.0;
    const INTEGERS_BEGIN: f64 = -9_223_372_036_854_775_808.0;
    number.is_f64() && number.as_f64().is_some_and(|number| number >= INTEGERS_END || number <= INTEGERS_BEGIN)
}

/// RFC 7396, section 2.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(patch) => {
                let slot = target.entry(key).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(object) = slot {
                    merge(object, patch);
                }
            }
            value => {
                target.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    /// The cases of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn a_merge_patch_does_what_rfc_7396_says() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let merged = Attributes::stored(object(target)).merged(object(patch)).unwrap();
            assert_eq!(serde_json::to_value(merged).unwrap(), result);
        }
    }

    #[test]
    fn what_is_too_large_too_deep_or_too_long_is_refused() {
        let mut deep = json!(1);
        for _ in 0..9 {
            deep = json!({ "a": deep });
        }
        for (attributes, hint) in [
            (json!({"a": "x".repeat(8200)}), "8192 are allowed"),
            (deep, "8 levels"),
            (json!({"x".repeat(65): 1}), "65 characters"),
            (json!({"a": [{"x".repeat(65): 1}]}), "65 characters"),
            (serde_json::from_str(r#"{"a":18446744073709551616}"#).unwrap(), "64 bits"),
            (serde_json::from_str(r#"{"a":[-9223372036854775809]}"#).unwrap(), "64 bits"),
            (serde_json::from_str(r#"{"a":{"b":1e30}}"#).unwrap(), "64 bits"),
        ] {
            let error = Attributes::new(object(attributes)).unwrap_err();
            assert!(error.field == "attributes" && error.reason.contains(hint), "{error}");
        }
        assert!(Attributes::new(object(json!({"a": [[[[[[[1]]]]]]]}))).is_ok(), "eight levels are allowed");
        let numbers = r#"{"a":[18446744073709551615,-9223372036854775808,9.2e+18,0.1,-1e-300]}"#;
        let kept = Attributes::new(serde_json::from_str(numbers).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&kept).unwrap(), numbers);
    }
}
