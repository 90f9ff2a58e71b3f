//! Words as a shell takes them, for commands that are printed to be pasted.

/// A word as a shell takes it (POSIX, Shell Command Language, 2.2.2): in single quotes where it needs any.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:,@%+=-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_only_where_a_shell_would_split_or_change_it() {
        assert_eq!(quoted("http://10.0.0.2:8500,http://[::1]:8500"), "'http://10.0.0.2:8500,http://[::1]:8500'");
        assert_eq!(quoted("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("/usr/bin/muster"), "/usr/bin/muster");
        assert_eq!(quoted(""), "''");
    }
}
