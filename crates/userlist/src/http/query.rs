//! The parameters of a query.

use discovery::FieldError;

/// Parameters that are `true` or `false`. One without a value is a mistake: `?dry_run` must not be a change that is
/// made.
const FLAGS: [&str; 4] = ["dry_run", "all", "spreadsheet", "create"];

/// Gives each parameter of a query to `set`, and collects what is wrong. Empty ones count as absent, except for
/// [`FLAGS`]; one that comes twice is a mistake.
pub(super) fn each_once(query: &str, mut set: impl FnMut(&str, &str) -> Result<(), FieldError>) -> Vec<FieldError> {
    let mut seen = Vec::new();
    let mut errors = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if seen.contains(&key) {
            errors.push(FieldError::new(cut(&key), "it is given twice"));
        } else if !value.is_empty() || FLAGS.contains(&&*key) {
            errors.extend(set(&key, &value).err());
        }
        seen.push(key);
    }
    errors
}

/// A parameter that is `true` or `false`.
pub(super) fn flag(key: &'static str, value: &str) -> Result<bool, FieldError> {
    value.parse().map_err(|_| FieldError::new(key, "it must be true or false"))
}

/// A key is whatever a client made up.
pub(super) fn cut(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(64).collect()
}
