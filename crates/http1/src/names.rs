//! Sets of field names, for one question about many.

use crate::name::Name;

/// A set of [`Name`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Names(u64);

// === impl Names ===

impl Names {
    /// These.
    #[must_use]
    pub const fn of(names: &[Name]) -> Self {
        let mut set = Self(0);
        let mut index = 0;
        while index < names.len() {
            set = set.with(names[index]);
            index += 1;
        }
        set
    }

    /// This set, and `name`.
    #[inline]
    #[must_use]
    pub const fn with(self, name: Name) -> Self {
        Self(self.0 | 1 << name as u8)
    }

    /// What is in this set or in `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Every name that is not in this set.
    #[must_use]
    pub const fn others(self) -> Self {
        Self(!self.0)
    }

    /// Whether `name` is in it.
    #[inline]
    pub const fn contains(self, name: Name) -> bool {
        self.0 >> name as u8 & 1 != 0
    }

    /// Whether a name is in both.
    #[inline]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        const FRAMING: Names = Names::of(&[Name::ContentLength, Name::TransferEncoding]);
        assert!(FRAMING.contains(Name::ContentLength) && !FRAMING.contains(Name::Other));
        assert!(FRAMING.others().contains(Name::MaxForwards) && !FRAMING.others().contains(Name::TransferEncoding));
        assert!(FRAMING.meets(Names::default().with(Name::ContentLength)) && !FRAMING.meets(FRAMING.others()));
        assert_eq!(FRAMING.and(FRAMING.others()), Names::default().others());
    }
}
