//! How much of a head is read.

/// The bounds of one head. A head beyond them is refused before it is understood, so they also bound the memory that a
/// connection can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Start line, fields and the empty line together, in bytes. Default 32 KiB; at most 4 GiB are read whatever it
    /// says. Beyond: [`Refusal::HeadTooLarge`](crate::Refusal::HeadTooLarge).
    pub head_max_bytes: usize,
    /// Field lines. Default 100. Beyond: [`Refusal::TooManyFields`](crate::Refusal::TooManyFields).
    pub fields_max: usize,
    /// The request target as sent, in bytes. Default 8 KiB, the least that RFC 9112, section 3, recommends.
    /// Beyond: [`Refusal::TargetTooLong`](crate::Refusal::TargetTooLong).
    pub target_max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_max_bytes: 32 * 1024, fields_max: 100, target_max_bytes: 8 * 1024 }
    }
}

impl Limits {
    /// Positions in a head are kept as `u32`.
    pub(crate) fn allows_head_of(&self, len: usize) -> bool {
        len <= self.head_max_bytes && u32::try_from(len).is_ok()
    }
}
