//! How much may be written in a minute: so many changes, so many bytes.

use std::{fmt, str::FromStr};

/// A bound of writes, as `20/64KiB`, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// As much as comes.
    Unbounded,
    /// What flows in; twenty minutes' worth may be written at once.
    Minute {
        /// Changes a minute, at least 1.
        changes: u32,
        /// Bytes of keys and values a minute, at least 1.
        bytes: u64,
    },
}

/// The units that are understood, in bytes; what is shown is in the largest that fits.
const UNITS: [(&str, u64); 3] = [("MiB", 1024 * 1024), ("KiB", 1024), ("B", 1)];

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Unbounded);
        }
        let (changes, bytes) = text.split_once('/').ok_or_else(wanted)?;
        let changes = changes.trim().parse().ok().filter(|changes| *changes > 0).ok_or_else(wanted)?;
        Ok(Self::Minute { changes, bytes: parse_size(bytes.trim())? })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbounded => f.write_str("off"),
            Self::Minute { changes, bytes } => write!(f, "{changes}/{}", format_size(*bytes)),
        }
    }
}

fn wanted() -> String {
    "write CHANGES/BYTES for what may be written in a minute, as 20/64KiB, or off".to_owned()
}

/// `64KiB`, `16MiB`, `100B`: at least one byte.
///
/// # Errors
///
/// What to write instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let found = UNITS.iter().find_map(|(unit, size)| {
        let number = text.strip_suffix(unit)?.trim().parse::<u64>().ok()?;
        number.checked_mul(*size)
    });
    found.filter(|size| *size > 0).ok_or_else(|| format!("{text:?} is no size; write 100B, 64KiB or 16MiB"))
}

/// A size in the largest unit in which it is a whole number.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let (unit, size) = UNITS.iter().find(|(_, size)| bytes.is_multiple_of(*size)).unwrap_or(&UNITS[2]);
    format!("{}{unit}", bytes / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_shown_as_it_is_written() {
        for text in ["20/64KiB", "1/1B", "3000/1MiB", "60/1500B", "off"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        assert_eq!("5/2048KiB".parse(), Ok(Budget::Minute { changes: 5, bytes: 2 << 20 }));
    }

    #[test]
    fn what_is_no_budget_is_refused() {
        for text in ["", "20", "0/1KiB", "20/0B", "20/64", "20/64kb", "x/1KiB", "20/99999999999999999999MiB", "-1/1B"] {
            assert!(text.parse::<Budget>().is_err(), "{text:?}");
        }
    }
}
