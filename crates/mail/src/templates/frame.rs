//! What passes between the service and the program that fills templates: a length, then JSON.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Filled, Template};

/// The most bytes of one question or answer. A filled template has three parts of 1 MiB, of which every character may
/// be escaped.
pub(super) const FRAME_MAX_BYTES: usize = 32 * 1024 * 1024;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// Whether a template is one, by its own sample.
    Check(Template),
    /// What it becomes with these data.
    Fill(Template, Value),
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Checked,
    Filled(Filled),
    Refused { field: String, reason: String },
}

/// A value as it is sent.
pub(super) fn written<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let len = u32::try_from(json.len()).ok().filter(|_| json.len() <= FRAME_MAX_BYTES);
    let len = len.ok_or_else(|| io::Error::other("it is too large"))?;
    Ok([&len.to_be_bytes(), json.as_slice()].concat())
}

/// How long the JSON is that follows.
pub(super) fn length(head: [u8; 4]) -> io::Result<usize> {
    let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if len <= FRAME_MAX_BYTES { Ok(len) } else { Err(io::Error::other("it is too large")) }
}

/// Reads one; `None` at the end.
pub(super) fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let mut json = vec![0; length(head)?];
    input.read_exact(&mut json)?;
    Ok(Some(serde_json::from_slice(&json)?))
}

/// Writes one.
pub(super) fn write<T: Serialize>(output: &mut impl Write, value: &T) -> io::Result<()> {
    output.write_all(&written(value)?)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_too_long_is_refused() {
        let mut bytes = Vec::new();
        let refused = |field: &str| Answer::Refused { field: field.to_owned(), reason: "ü".to_owned() };
        write(&mut bytes, &refused("a")).unwrap();
        write(&mut bytes, &refused("b")).unwrap();
        let mut input = bytes.as_slice();
        for expected in ["a", "b"] {
            let Some(Answer::Refused { field, .. }) = read(&mut input).unwrap() else { panic!("a refusal") };
            assert_eq!(field, expected);
        }
        assert!(read::<Answer>(&mut input).unwrap().is_none(), "the end");
        assert!(read::<Answer>(&mut [0xff; 8].as_slice()).is_err());
        assert!(read::<Answer>(&mut [0, 0, 0, 9, b'"'].as_slice()).is_err(), "cut off");
    }
}
