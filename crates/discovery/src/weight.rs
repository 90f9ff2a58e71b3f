use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, quoted};

/// An instance's share of the traffic of its service: 1 (the default) to 1000.
///
/// An instance of weight 2 gets twice the requests of one of weight 1. There is no weight 0: an instance that wants no
/// traffic says so with its [`Status`](crate::Status), which also tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u16")]
pub struct Weight(NonZeroU16);

// === impl Weight ===

impl Weight {
    /// The largest weight.
    pub const MAX: u16 = 1000;

    /// The number, 1 to 1000.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    fn refused(given: &str) -> FieldError {
        FieldError::new("weight", format!("{given} is not a weight; give a whole number from 1 to 1000"))
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

impl TryFrom<u64> for Weight {
    type Error = FieldError;

    fn try_from(weight: u64) -> Result<Self, FieldError> {
        let in_range = u16::try_from(weight).ok().filter(|weight| *weight <= Self::MAX);
        in_range.and_then(NonZeroU16::new).map(Self).ok_or_else(|| Self::refused(&weight.to_string()))
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

impl FromStr for Weight {
    type Err = FieldError;

    fn from_str(weight: &str) -> Result<Self, FieldError> {
        let number = weight.parse::<u64>().map_err(|_| Self::refused(&quoted(weight)))?;
        number.try_into()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_a_thousand_is_a_weight() {
        assert_eq!("1".parse::<Weight>().unwrap(), Weight::default());
        assert_eq!("1000".parse::<Weight>().unwrap().get(), 1000);
        for weight in ["", "0", "1001", "-1", "1.5", "two", "99999999999999999999"] {
            assert_eq!(weight.parse::<Weight>().unwrap_err().field, "weight", "{weight:?}");
        }
    }
}
