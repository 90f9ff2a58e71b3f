//! Whom a message of `POST /v1/messages` goes to and comes from: addresses with display names, and users by name.
//!
//! | form | example |
//! |---|---|
//! | an address | `"dong@example.com"` |
//! | with a display name | `"Dong <dong@example.com>"`, or `{"email":"dong@example.com","name":"Dong"}` |
//! | with one that holds `<`, `"` or a comma | `"\"A <b> C\" <dong@example.com>"`, quoted as in RFC 5322, 3.2.4 |
//! | a user of userlist, by name | `{"user":"dong"}` |
//! | several | `["dong@example.com", {"user":"ann"}]` |
//!
//! Addresses pass the same checks as those of the plain form ([`crate::message::recipient`]). A display name is one
//! line of at most 200 characters; what looks like an encoded word (`=?…?=`) is refused, because readers would decode
//! it, line breaks included; and so is anything that lettre could not write.

use discovery::FieldError;
use lettre::message::Mailbox;
use serde_json::Value;

use super::recipient;

/// The longest display name in characters.
const NAME_MAX_CHARS: usize = 200;
/// The most recipients in one list.
pub const LIST_MAX: usize = 50;

const SEVERAL: &str = "it holds several addresses; write a list, [\"a@b.c\", \"d@e.f\"]";

/// One entry of a list.
#[derive(Clone, PartialEq, Eq)]
pub enum RecipientSpec {
    /// An address, perhaps with a name.
    Mailbox(Mailbox),
    /// A user of userlist, by name.
    User(String),
}

/// An address must not get into a log.
impl std::fmt::Debug for RecipientSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecipientSpec(…)")
    }
}

/// Reads one entry, or a list of them; `null`, an empty text and a missing field are an empty list.
///
/// # Errors
/// Names the entry (`to[1]`) and says what to change.
pub fn list(field: &str, value: &Value) -> Result<Vec<RecipientSpec>, FieldError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => Ok(Vec::new()),
        Value::Array(entries) if entries.len() > LIST_MAX => Err(FieldError::new(
            field.to_owned(),
            format!("it has more than {LIST_MAX} entries; send several messages"),
        )),
        Value::Array(entries) => {
            let entry = |(index, value)| one(&format!("{field}[{index}]"), value);
            entries.iter().enumerate().map(entry).collect()
        }
        value => one(field, value).map(|spec| vec![spec]),
    }
}

fn one(field: &str, value: &Value) -> Result<RecipientSpec, FieldError> {
    let shape = || {
        FieldError::new(
            field.to_owned(),
            "write \"a@b.c\", {\"email\":\"a@b.c\",\"name\":\"A\"} or {\"user\":\"name\"}",
        )
    };
    match value {
        Value::String(text) => mailbox(field, text).map(RecipientSpec::Mailbox),
        Value::Object(object) => {
            let text = |key: &str| object.get(key).map(|value| value.as_str().ok_or_else(shape)).transpose();
            if object.keys().any(|key| !matches!(key.as_str(), "email" | "name" | "user")) {
                return Err(shape());
            }
            match (text("email")?, text("name")?, text("user")?) {
                (Some(email), name, None) => named(field, name, email).map(RecipientSpec::Mailbox),
                (None, None, Some(user)) if !user.is_empty() => Ok(RecipientSpec::User(user.to_owned())),
                _ => Err(shape()),
            }
        }
        _ => Err(shape()),
    }
}

/// Reads `a@b.c` or `Name <a@b.c>`; the name may be quoted.
///
/// # Errors
/// Says what to change; the address itself is not in it.
pub fn mailbox(field: &str, text: &str) -> Result<Mailbox, FieldError> {
    let wrong = |reason: &str| FieldError::new(field.to_owned(), reason);
    let (name, rest) = name_and_rest(text).map_err(wrong)?;
    let Some(rest) = rest else {
        return match text.matches('@').count() > 1 && text.contains([',', ';']) {
            true => Err(wrong(SEVERAL)),
            false => named(field, None, text),
        };
    };
    let Some((address, after)) = rest.split_once('>') else {
        return Err(wrong("the < is not closed; write for example \"Dong <dong@example.com>\""));
    };
    match after.trim_start() {
        "" => named(field, Some(&name), address),
        after if after.starts_with([',', ';']) => Err(wrong(SEVERAL)),
        _ => Err(wrong("something follows the >; write for example \"Dong <dong@example.com>\"")),
    }
}

/// The display name without its quotation marks and backslashes, and what follows the first `<` outside of quotation
/// marks.
fn name_and_rest(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let mut name = String::new();
    let mut is_quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => name.extend(chars.next().map(|(_, c)| c)),
            '<' if !is_quoted => return Ok((name, text.get(at + 1..))),
            c => name.push(c),
        }
    }
    match is_quoted {
        true => Err("a quotation mark in it is not closed; write for example \"\\\"Dong, A.\\\" <dong@example.com>\""),
        false => Ok((name, None)),
    }
}

fn named(field: &str, name: Option<&str>, address: &str) -> Result<Mailbox, FieldError> {
    let wrong = |reason: String| FieldError::new(field.to_owned(), reason);
    let address = recipient::check(address).map_err(wrong)?;
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    if let Some(name) = name {
        display_name(name).map_err(|reason| wrong(format!("its name {reason}")))?;
    }
    Ok(Mailbox::new(name.map(str::to_owned), address))
}

fn display_name(name: &str) -> Result<(), &'static str> {
    if name.chars().any(char::is_control) {
        return Err("holds a line break or another control character; take it out");
    }
    if name.contains("=?") {
        return Err("holds \"=?\", which readers take for an encoded word; take it out");
    }
    if name.chars().count() > NAME_MAX_CHARS {
        return Err("is longer than 200 characters; shorten it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: &Value) -> Result<Vec<String>, String> {
        let specs = list("to", value).map_err(|error| format!("{}: {}", error.field, error.reason))?;
        let show = |spec| match spec {
            RecipientSpec::Mailbox(mailbox) => mailbox.to_string(),
            RecipientSpec::User(name) => format!("@{name}"),
        };
        Ok(specs.into_iter().map(show).collect())
    }

    #[test]
    fn every_form_of_a_recipient_is_read() {
        for (value, expected) in [
            (json!(null), vec![]),
            (json!("a@b.c"), vec!["a@b.c"]),
            (json!("A B <a@b.c>"), vec!["A B <a@b.c>"]),
            (json!("\"B, A\" <a@b.c>"), vec!["\"B, A\" <a@b.c>"]),
            (json!("\"A <b> C\" <a@b.c>"), vec!["\"A <b> C\" <a@b.c>"]),
            (json!("\"the \\\"Z\\\"\" <a@b.c>"), vec!["\"the \\\"Z\\\"\" <a@b.c>"]),
            (json!("\"Dong\" <a@b.c> "), vec!["Dong <a@b.c>"]),
            (json!("Dong, A. <a@b.c>"), vec!["\"Dong, A.\" <a@b.c>"]),
            (json!(""), vec![]),
            (json!(" "), vec![]),
            (json!({"email": "a@b.c"}), vec!["a@b.c"]),
            (json!({"email": "a@bücher.example", "name": "Zoë"}), vec!["Zoë <a@xn--bcher-kva.example>"]),
            (json!([{"user": "dong"}, "a@b.c"]), vec!["@dong", "a@b.c"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(shown(&value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn a_mistake_names_the_entry() {
        for (value, start) in [
            (json!(7), "to: write"),
            (json!(["a@b.c", 7]), "to[1]: write"),
            (json!(["a@b.c", "nobody"]), "to[1]: it has no '@'"),
            (json!({"email": "a@b.c", "user": "dong"}), "to: write"),
            (json!({"email": "a@b.c", "nme": "A"}), "to: write"),
            (json!({"user": ""}), "to: write"),
            (json!("A <a@b.c"), "to: the < is not closed"),
            (json!("\"A <a@b.c>"), "to: a quotation mark in it is not closed"),
            (json!("A <a@b.c> x"), "to: something follows the >"),
            (json!("A <a@b.c>, B <d@e.f>"), "to: it holds several addresses"),
            (json!("a@b.c, d@e.f"), "to: it holds several addresses"),
            (json!(["a@b.c", ""]), "to[1]: it is empty"),
            (json!({"email": "a@b.c", "name": "A\r\nBcc: x@y.z"}), "to: its name holds a line break"),
            (json!({"email": "a@b.c", "name": "=?utf-8?q?=0d=0aBcc:x?="}), "to: its name holds \"=?\""),
            (json!("b@[169.254.169.254]"), "to: what is after the '@' is an IP address"),
            (json!(vec!["a@b.c"; 51]), "to: it has more than 50"),
        ] {
            let error = shown(&value).unwrap_err();
            assert!(error.starts_with(start), "{value}: {error}");
        }
    }
}
