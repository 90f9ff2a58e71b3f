//! Templates: a subject, a text and an html with holes in them, kept in the outbox's database.
//!
//! They are written in Jinja's language (minijinja). What is filled into html is escaped, what is filled into text is
//! not; a subject that becomes two lines is refused like any other. A hole without a value is an error, never an empty
//! place: at upload every variable that the template mentions must be in its `sample`, and the template must fill with
//! it; at sending the data of the request must fill it, or nothing is accepted.
//!
//! A template is a program, and its author may be wrong, or hostile. The language has no macros and no includes, loops
//! have fuel, and parts have a length; what else it could do is bounded by the [process](worker) in which all of this
//! runs: call [`Filler`], not these functions, for what came from outside.

mod filler;
mod frame;
pub mod worker;

use std::{collections::BTreeSet, io};

pub use filler::{FillError, Filler};

use discovery::FieldError;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The most bytes of one part: 256 KiB.
const PART_MAX_BYTES: usize = 256 * 1024;
/// The most bytes of one part when it is filled: 1 MiB, as much as a text may have.
const FILLED_MAX_BYTES: usize = 1024 * 1024;
/// How much work filling one part may be, in minijinja's instructions: loops must end.
const FUEL: u64 = 200_000;

/// A template as it is uploaded and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The subject.
    #[schema(max_length = 262_144)]
    pub subject: String,
    /// Plain text; this, `html` or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 262_144)]
    pub text: Option<String>,
    /// The same for readers that show html.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 262_144)]
    pub html: Option<String>,
    /// A value for every variable: what the template is checked with.
    #[serde(default)]
    #[schema(required = false)]
    pub sample: Value,
}

/// A template without holes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// The subject.
    pub subject: String,
    /// Plain text.
    pub text: Option<String>,
    /// Html.
    pub html: Option<String>,
}

impl Template {
    /// Checks it with its own sample.
    ///
    /// # Errors
    /// Names the part that is wrong and says what to change.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.text.is_none() && self.html.is_none() {
            return Err(FieldError::new("text", "it is missing; write text, html or both"));
        }
        for (name, source) in self.parts() {
            if source.len() > PART_MAX_BYTES {
                return Err(FieldError::new(name, "it is longer than 256 KiB; shorten it"));
            }
        }
        let missing = self.missing(&self.sample)?;
        if !missing.is_empty() {
            let names: Vec<String> = missing.into_iter().collect();
            return Err(FieldError::new("sample", format!("it has no value for {}", names.join(", "))));
        }
        self.fill(&self.sample).map(|_| ())
    }

    /// Fills it with `data`.
    ///
    /// # Errors
    /// A variable has no value, or the template cannot be filled with these.
    pub fn fill(&self, data: &Value) -> Result<Filled, FieldError> {
        let part = |name: &'static str, source: &Option<String>| {
            source.as_ref().map(|source| fill(name, source, data)).transpose()
        };
        let text = part("text", &self.text)?;
        let html = part("html", &self.html)?;
        Ok(Filled { subject: fill("subject", &self.subject, data)?, text, html })
    }

    /// Variables of the template that `data` does not have, the ones in branches that are not taken included.
    fn missing(&self, data: &Value) -> Result<BTreeSet<String>, FieldError> {
        let mut missing = BTreeSet::new();
        let environment = environment();
        let is_function = |path: &String| environment.globals().any(|(name, _)| name == path.as_str());
        for (name, source) in self.parts() {
            let template = environment.template_from_named_str(name, source).map_err(|error| unusable(name, &error))?;
            let undeclared = template.undeclared_variables(true);
            missing.extend(undeclared.into_iter().filter(|path| !has(data, path) && !is_function(path)));
        }
        Ok(missing)
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let text = self.text.as_deref().map(|text| ("text", text));
        let html = self.html.as_deref().map(|html| ("html", html));
        [Some(("subject", self.subject.as_str())), text, html].into_iter().flatten()
    }
}

/// Whether `data` has a value at `user.name`.
fn has(data: &Value, path: &str) -> bool {
    path.split('.').try_fold(data, |value, key| value.get(key)).is_some()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| match name {
        "html" => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    environment.set_fuel(Some(FUEL));
    // It would show everything that the data hold.
    environment.remove_global("debug");
    environment
}

fn fill(name: &'static str, source: &str, data: &Value) -> Result<String, FieldError> {
    let environment = environment();
    let template = environment.template_from_named_str(name, source).map_err(|error| unusable(name, &error))?;
    let mut filled = Bounded::default();
    match template.render_captured_to(data, &mut filled) {
        Err(_) if filled.is_full => Err(FieldError::new(name, "it becomes longer than 1 MiB when it is filled")),
        Err(error) => Err(unusable(name, &error)),
        Ok(_) => String::from_utf8(filled.bytes).map_err(|_| FieldError::new(name, "it becomes no text")),
    }
}

/// Takes [`FILLED_MAX_BYTES`].
#[derive(Debug, Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_full = self.bytes.len() + bytes.len() > FILLED_MAX_BYTES;
        if self.is_full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unusable(name: &'static str, error: &minijinja::Error) -> FieldError {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    FieldError::new(name, format!("the template cannot be filled{line}: {}{detail}", error.kind()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(text: &str, html: &str, sample: Value) -> Template {
        Template {
            subject: "Hi {{ name }}".to_owned(),
            text: Some(text.to_owned()),
            html: Some(html.to_owned()),
            sample,
        }
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let template = template("{{ name }}", "<b>{{ name }}</b>", json!({ "name": "x" }));
        template.check().unwrap();
        let filled = template.fill(&json!({ "name": "<A & B>" })).unwrap();
        assert_eq!(filled.subject, "Hi <A & B>");
        assert_eq!(filled.text.as_deref(), Some("<A & B>"));
        assert_eq!(filled.html.as_deref(), Some("<b>&lt;A &amp; B&gt;</b>"));
    }

    #[test]
    fn a_variable_without_a_sample_is_an_error_at_upload_even_in_a_branch_not_taken() {
        for text in ["{{ nmae }}", "{% if name == 'never' %}{{ other }}{% endif %}", "{{ user.email }}"] {
            let error = template(text, "x", json!({ "name": "x", "user": {} })).check().unwrap_err();
            assert_eq!(error.field, "sample", "{text}: {}", error.reason);
        }
        let error = template("{{ name", "x", json!({ "name": "x" })).check().unwrap_err();
        assert_eq!(error.field, "text");
    }

    #[test]
    fn a_variable_without_a_value_is_an_error_at_sending() {
        let template = template("{{ name }}", "x", json!({ "name": "x" }));
        let error = template.fill(&json!({})).unwrap_err();
        assert!(error.reason.contains("undefined"), "{}", error.reason);
    }

    #[test]
    fn the_functions_of_the_language_need_no_sample() {
        let text = "{% for i in range(3) %}{{ i }}{% endfor %}{{ dict(a=name).a }}";
        let template = template(text, "{{ name }}", json!({ "name": "x" }));
        template.check().unwrap();
        assert_eq!(template.fill(&json!({ "name": "y" })).unwrap().text.as_deref(), Some("012y"));
        let error = super::Template { text: Some("{{ debug() }}".to_owned()), ..template }.check().unwrap_err();
        assert!(error.reason.contains("debug"), "{}", error.reason);
    }

    #[test]
    fn a_part_that_becomes_too_long_is_refused() {
        let text = "{% for i in range(2000) %}{{ name }}{% endfor %}";
        let template = template(text, "x", json!({ "name": "x" }));
        template.check().unwrap();
        let error = template.fill(&json!({ "name": "x".repeat(1000) })).unwrap_err();
        assert!(error.field == "text" && error.reason.contains("1 MiB"), "{}", error.reason);
    }

    #[test]
    fn a_template_that_would_run_for_ever_or_reach_outside_is_refused() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        for text in [loops, "{% include 'html' %}", "{{ name|nothing }}"] {
            assert!(template(text, "x", json!({ "name": "x" })).check().is_err(), "{text}");
        }
    }
}
