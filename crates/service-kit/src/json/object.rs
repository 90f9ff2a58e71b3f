//! JSON objects of any shape, without the mistakes that serde lets through in them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// A JSON object in which no key comes twice, on any level.
///
/// `serde_json` takes the last of two, other parsers the first (RFC 8259, section 4): what one program checked is not
/// what another one does. The error reads as serde's own for a struct, `duplicate field`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(pub Map<String, Value>);

struct Unique(Value);

struct UniqueVisitor;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object, A::Error> {
                unique(members).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        unique(members).map(Value::Object)
    }
}

fn unique<'de, A: MapAccess<'de>>(mut members: A) -> Result<Map<String, Value>, A::Error> {
    let mut map = Map::new();
    while let Some(key) = members.next_key::<String>()? {
        if map.contains_key(&key) {
            let key: String = key.chars().filter(|&c| !c.is_control() && c != '`').take(64).collect();
            return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
        }
        let Unique(value) = members.next_value()?;
        map.insert(key, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn an_object_is_what_serde_json_makes_of_it() {
        let text = r#"{"a":[1,-2,0.5,18446744073709551615,true,null,"x",{"b":{}}],"c":"\u00e9"}"#;
        let object: Object = parse(text.as_bytes()).unwrap();
        assert_eq!(Value::Object(object.0), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_key_that_comes_twice_is_named_on_any_level() {
        for (text, field) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":1,"b":{"c":1,"c":2}}"#, "b.c"),
            (r#"{"b":[{"c":1,"\u0063":2}]}"#, "b[0].c"),
        ] {
            let problem = parse::<Object>(text.as_bytes()).unwrap_err();
            assert_eq!((problem.status.as_u16(), &*problem.errors[0].field), (422, field), "{text}");
        }
        for text in ["[]", "17", "null"] {
            assert_eq!(parse::<Object>(text.as_bytes()).unwrap_err().errors[0].field, "body", "{text}");
        }
    }
}
