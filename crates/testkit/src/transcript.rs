//! Console sessions in the documentation: read, run, compared.
//!
//! A block that starts with three backquotes and `console` holds commands (`$ curl …`) and, below each, what it prints.
//! Numbers and ids differ from run to run, so both sides are compared with every run of digits, and every word of 16 or
//! more hexadecimal digits, folded into one sign. A test that can tell more exactly what differs folds for itself.

/// One command and what the documentation says that it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The command, without the `$ `.
    pub command: String,
    /// The lines below it.
    pub output: String,
}

/// The section of a Markdown text below the first heading `## title…`; empty when there is none.
#[must_use]
pub fn section<'a>(markdown: &'a str, title: &str) -> &'a str {
    let below = markdown.split_once(&format!("\n## {title}")).and_then(|(_, rest)| rest.split_once('\n'));
    below.and_then(|(_, below)| below.split("\n## ").next()).unwrap_or_default()
}

/// The steps of all `console` blocks of a Markdown text.
#[must_use]
pub fn steps(markdown: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        match (inside, line.strip_prefix("```")) {
            (false, Some(language)) => inside = language == "console",
            (true, Some(_)) => inside = false,
            (true, None) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), output: String::new() }),
                (None, Some(step)) => {
                    step.output.push_str(line);
                    step.output.push('\n');
                }
                (None, None) => {}
            },
            (false, None) => {}
        }
    }
    steps
}

/// Folds what differs from run to run.
#[must_use]
pub fn fold(output: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric();
    let mut folded = String::with_capacity(output.len());
    let mut rest = output.trim_end();
    while let Some(first) = rest.chars().next() {
        let end = match rest.find(|character| is_word(character) != is_word(first)) {
            Some(end) => end,
            None => rest.len(),
        };
        let (word, after) = rest.split_at(end);
        folded.push_str(&fold_word(word));
        rest = after;
    }
    folded
}

fn fold_word(word: &str) -> String {
    if word.len() >= 16 && word.chars().all(|character| character.is_ascii_hexdigit()) {
        return "ID".to_owned();
    }
    let mut folded = String::with_capacity(word.len());
    for character in word.chars() {
        match character {
            '0'..='9' if folded.ends_with('#') => {}
            '0'..='9' => folded.push('#'),
            character => folded.push(character),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_output_are_read_from_console_blocks_only() {
        let markdown = "text\n```sh\n$ not this\n```\n```console\n$ echo a\na\n\n$ true\n```\n$ nor this\n";
        let step = |command: &str, output: &str| Step { command: command.to_owned(), output: output.to_owned() };
        assert_eq!(steps(markdown), [step("echo a", "a\n\n"), step("true", "")]);
    }

    #[test]
    fn a_section_ends_where_the_next_one_begins() {
        let markdown = "# t\n## a, port 1\nx\n### b\ny\n## c\nz\n";
        assert_eq!(["a", "b", "c"].map(|title| section(markdown, title)), ["x\n### b\ny", "", "z\n"]);
    }

    #[test]
    fn numbers_and_ids_are_folded_and_words_are_not() {
        assert_eq!(fold("{\"id\":17,\"name\":\"dong\"}\n"), "{\"id\":#,\"name\":\"dong\"}");
        assert_eq!(fold("127.0.0.1:45678 0193aabbccddeeff00112233"), "#.#.#.#:# ID");
        assert_ne!(fold("mail is down"), fold("mail is up"));
    }
}
