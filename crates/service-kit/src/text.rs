//! Text that is what it looks like: one spelling for what Unicode can write in several ways.
//!
//! Here and not in a database: SQLite's `LOWER` knows A to Z only, and what MySQL's collations hold for equal depends
//! on their version.

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

/// `text` in Normalization Form C (Unicode Standard Annex 15).
#[must_use]
pub fn composed(text: &str) -> Cow<'_, str> {
    const { ComposingNormalizerBorrowed::new_nfc() }.normalize(text)
}

/// `text` in lower case, by Unicode's default mapping, composed: "STRASSE" is "strasse", and "Straße" stays "straße".
///
/// For keys by which one thing is told from another. To search, see [`case_folded`].
#[must_use]
pub fn lower_cased(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { composed(&text.to_lowercase()).into_owned() }
}

/// `text` by Unicode's full case folding, composed: "Straße", "STRASSE" and "strasse" are one.
///
/// Unicode Standard, section 3.13, definition D145; no language's special cases. For texts that are searched for. It is
/// longer than `text` at times, at most three characters for one.
#[must_use]
pub fn case_folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let decomposed = const { DecomposingNormalizerBorrowed::new_nfd() }.normalize(text);
    composed(&CaseMapper::new().fold_string(&decomposed)).into_owned()
}

/// The first character of `text` that shows nothing, or changes how its neighbours are shown.
///
/// Control characters break logs, terminals and headers; direction marks and zero-width spaces make two names look the
/// same. The joiners (U+200C, U+200D) and variation selectors stay: Persian and emoji are written with them.
#[must_use]
pub fn invisible(text: &str) -> Option<char> {
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
#[must_use]
pub fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_that_differ_in_case_alone_fold_to_one() {
        for (a, b) in [
            ("Straße", "STRASSE"),
            ("ẞ", "ss"),
            ("ΣΟΦΟΣ", "σοφος"),
            ("σοφός", "ΣΟΦΌΣ"),
            ("ﬁne", "FINE"),
            ("Jo\u{308}rg", "J\u{d6}RG"),
            ("ŉ", "ʼN"),
            ("Ꭰ", "ꭰ"),
        ] {
            assert_eq!(case_folded(a), case_folded(b), "{a} {b}");
        }
        for (a, b) in [("jorg", "jörg"), ("I", "ı"), ("a", "а")] {
            assert_ne!(case_folded(a), case_folded(b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(text in "\\PC{0,40}|[A-Za-zÀ-ɏͰ-Ͽἀ-῿\u{300}-\u{345}]{0,20}") {
            let folded = case_folded(&text);
            prop_assert_eq!(case_folded(&folded), folded.as_str());
            // Decomposing alone can make four of one, which composing undoes.
            prop_assert!(folded.chars().count() <= 4 * text.chars().count());
        }
    }
}
