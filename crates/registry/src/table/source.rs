//! The text of a table, as values with the lines on which they begin. What they mean is [`super::document`]'s.

use std::path::Path;

use serde_json::Value;
use struson::reader::{JsonReader as _, JsonReaderPosition, JsonStreamReader, ReaderError, ValueType};
use toml::de::DeTable;

use super::mistake::Mistake;

/// The one name at the top.
const INSTANCES: &str = "instances";

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Toml,
}

/// One element of the list of instances.
#[derive(Debug)]
pub(super) struct Item {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

// === impl Format ===

impl Format {
    /// By the extension: `.toml` is TOML, all else JSON.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
            true => Self::Toml,
            false => Self::Json,
        }
    }

    /// The elements of the list `instances`, which must be there: an empty file is a mistake, not an empty table.
    pub(super) fn read(self, text: &str) -> Result<Vec<Item>, Mistake> {
        let found = match self {
            Self::Json => json(text)?,
            Self::Toml => toml(text)?,
        };
        found.ok_or_else(|| Mistake::of_file(format!("\"{INSTANCES}\" is missing; give the list of instances")))
    }
}

fn json(text: &str) -> Result<Option<Vec<Item>>, Mistake> {
    let mut found = None;
    let mut reader = JsonStreamReader::new(text.as_bytes());
    reader.begin_object().map_err(|error| refused(&error))?;
    while reader.has_next().map_err(|error| refused(&error))? {
        let line = line_of(&reader.current_position(false));
        let name = reader.next_name_owned().map_err(|error| refused(&error))?;
        if name != INSTANCES || found.is_some() {
            return Err(unknown(&name, line));
        }
        found = Some(json_items(&mut reader).map_err(|error| refused(&error))?);
    }
    reader.end_object().map_err(|error| refused(&error))?;
    reader.consume_trailing_whitespace().map_err(|error| refused(&error))?;
    Ok(found)
}

fn json_items(reader: &mut JsonStreamReader<&[u8]>) -> Result<Vec<Item>, ReaderError> {
    let mut items = Vec::new();
    reader.begin_array()?;
    while reader.has_next()? {
        let line = line_of(&reader.current_position(false)).unwrap_or_default();
        items.push(Item { line, value: json_value(reader)? });
    }
    reader.end_array()?;
    Ok(items)
}

/// A value of any kind; of a name that comes twice in an object, [`TWICE`] marks the second.
fn json_value(reader: &mut JsonStreamReader<&[u8]>) -> Result<Value, ReaderError> {
    Ok(match reader.peek()? {
        ValueType::Object => {
            let mut members = serde_json::Map::new();
            reader.begin_object()?;
            while reader.has_next()? {
                let name = reader.next_name_owned()?;
                let value = json_value(reader)?;
                if members.insert(name.clone(), value).is_some() {
                    members.insert(format!("{TWICE}{name}"), Value::Null);
                }
            }
            reader.end_object()?;
            Value::Object(members)
        }
        ValueType::Array => {
            let mut elements = Vec::new();
            reader.begin_array()?;
            while reader.has_next()? {
                elements.push(json_value(reader)?);
            }
            reader.end_array()?;
            Value::Array(elements)
        }
        ValueType::String => Value::String(reader.next_string()?),
        ValueType::Number => {
            let text = reader.next_number_as_string()?;
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        ValueType::Boolean => Value::Bool(reader.next_bool()?),
        ValueType::Null => {
            reader.next_null()?;
            Value::Null
        }
    })
}

/// Stands before a name that an object has twice: no field is called so, and it says what is wrong.
const TWICE: &str = "a second ";

fn refused(error: &ReaderError) -> Mistake {
    let (line, reason) = match error {
        ReaderError::SyntaxError(error) => (line_of(&error.location), format!("it is not JSON: {}", error.kind)),
        ReaderError::UnexpectedValueType { expected, actual, location } => {
            (line_of(location), format!("it is {actual}, not {expected}"))
        }
        ReaderError::MaxNestingDepthExceeded { location, .. } => {
            (line_of(location), "it is nested too deeply".to_owned())
        }
        other => (None, format!("it is not JSON: {other}")),
    };
    Mistake { line, path: String::new(), reason }
}

fn line_of(position: &JsonReaderPosition) -> Option<usize> {
    let line = position.line_pos.map(|position| position.line + 1)?;
    usize::try_from(line).ok()
}

fn unknown(name: &str, line: Option<usize>) -> Mistake {
    let name: String = name.chars().take(64).collect();
    let reason = format!("{name:?} is not known here, or comes twice; only \"{INSTANCES}\" is, once");
    Mistake { line, path: String::new(), reason }
}

fn toml(text: &str) -> Result<Option<Vec<Item>>, Mistake> {
    let line =
        |start: usize| text.as_bytes()[..start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let refused = |error: &toml::de::Error| Mistake {
        line: error.span().map(|span| line(span.start)),
        path: String::new(),
        reason: format!("it is not TOML: {}", error.message()),
    };
    let table = DeTable::parse(text).map_err(|error| refused(&error))?.into_inner();
    let mut found = None;
    for (name, value) in table {
        if name.get_ref() != INSTANCES {
            return Err(unknown(name.get_ref(), Some(line(name.span().start))));
        }
        let at = line(value.span().start);
        let toml::de::DeValue::Array(elements) = value.into_inner() else {
            return Err(Mistake { line: Some(at), path: INSTANCES.to_owned(), reason: "it is not a list".to_owned() });
        };
        let items = elements.into_iter().map(|element| {
            let line = line(element.span().start);
            let value = serde::Deserialize::deserialize(toml::de::ValueDeserializer::from(element));
            value.map(|value| Item { line, value }).map_err(|error| refused(&error))
        });
        found = Some(items.collect::<Result<_, _>>()?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(format: Format, text: &str) -> Vec<usize> {
        format.read(text).unwrap().iter().map(|item| item.line).collect()
    }

    #[test]
    fn every_instance_is_known_with_its_line_in_either_format() {
        let json = "{\n  \"instances\": [\n    {\"a\": 1},\n\n    {\"b\": [true, null, 2.5, \"x\"]}\n  ]\n}\n";
        assert_eq!(lines(Format::Json, json), [3, 5]);
        let items = Format::Json.read(json).unwrap();
        assert_eq!(items[1].value, serde_json::json!({ "b": [true, null, 2.5, "x"] }));
        let toml = "# ours\n[[instances]]\na = 1\n\n[[instances]]\nb = { c = \"x\" }\n";
        assert_eq!(lines(Format::Toml, toml), [2, 5]);
        assert_eq!(Format::Toml.read(toml).unwrap()[1].value, serde_json::json!({ "b": { "c": "x" } }));
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        for (format, text, line, words) in [
            (Format::Json, "", None, "not JSON"),
            (Format::Json, "{}", None, "\"instances\" is missing"),
            (Format::Json, "[]", Some(1), "not Object"),
            (Format::Json, "{\n\"instances\": [\n{\"a\": 1},\n{\"a\" 1}]}", Some(4), "not JSON"),
            (Format::Json, "{\"instances\": []}\n}", Some(2), "not JSON"),
            (Format::Json, "{\"instances\": [],\n \"services\": []}", Some(2), "\"services\" is not known"),
            (Format::Json, "{\"instances\": {}}", Some(1), "not Array"),
            (Format::Toml, "", None, "\"instances\" is missing"),
            (Format::Toml, "\n[[instances]\n", Some(2), "not TOML"),
            (Format::Toml, "instances = 7", Some(1), "not a list"),
            (Format::Toml, "instances = []\n\nx = 1", Some(3), "\"x\" is not known"),
        ] {
            let mistake = format.read(text).unwrap_err();
            assert!(mistake.reason.contains(words), "{text:?}: {mistake}");
            // An end that comes too early has the last line.
            assert!(line.is_none() || mistake.line == line, "{text:?}: {mistake}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_marked() {
        let items = Format::Json.read(r#"{"instances":[{"a":1,"a":2}]}"#).unwrap();
        assert!(items[0].value.get("a second a").is_some(), "{:?}", items[0].value);
    }
}
