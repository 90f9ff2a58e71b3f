//! What a name and an address have in common: text that is what it looks like.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// `text` in Normalization Form C (Unicode Standard Annex 15).
pub(crate) fn composed(text: &str) -> Cow<'_, str> {
    const { ComposingNormalizerBorrowed::new_nfc() }.normalize(text)
}

/// `text` without the difference between upper and lower case, as far as Unicode's default mapping goes.
///
/// In here and not in the database: SQLite's `LOWER` knows A to Z only, and MySQL's depends on its version.
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { composed(&text.to_lowercase()).into_owned() }
}
/// The first character of `text` that shows nothing, or changes how its neighbours are shown.
///
/// Control characters break logs, terminals and headers; direction marks and zero-width spaces make two names look the
/// same. The joiners (U+200C, U+200D) and variation selectors stay: Persian and emoji are written with them.
pub(super) fn invisible(text: &str) -> Option<char> {
    text.chars().find(|&c| {
        c.is_control()
            || matches!(c,
                '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}')
            // Never characters, by definition: U+FDD0 to U+FDEF and the last two of every plane.
            || matches!(c, '\u{fdd0}'..='\u{fdef}')
            || u32::from(c) & 0xfffe == 0xfffe
    })
}

/// How an error shows a character that cannot be seen: `U+202E`.
pub(super) fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}
