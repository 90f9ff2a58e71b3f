//! The lines of doc/api.md about users work when pasted, and print what it says.

use std::process::Command;

use crate::service::Service;

const DOCUMENT: &str = include_str!("../../../../doc/api.md");

/// The section about this service.
fn section() -> &'static str {
    let start = DOCUMENT.find("\n## userlist").expect("the section");
    let rest = &DOCUMENT[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// Commands of `console` blocks, each with what is below it.
fn steps() -> Vec<(&'static str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    let blocks = section().split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command, String::new())),
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => {}
        }
    }
    steps
}

/// Without what is different every time: times and request ids.
fn fold(output: &str) -> String {
    let mut folded = String::new();
    for part in output.trim_end().split_inclusive([',', '"']) {
        let word = part.trim_end_matches([',', '"', '\n']);
        let is_time = word.len() == 24 && word.starts_with("20") && word.ends_with('Z');
        let is_id = word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit());
        folded.push_str(if is_time || is_id { "…" } else { part });
    }
    folded
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documentation_shows_is_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await;
    let steps = steps();
    assert!(steps.len() >= 6, "put, patch, find, a condition, import, export");
    for (command, expected) in steps {
        let here = command.replace("localhost:6060", service.client.address("").trim_start_matches("http://"));
        let run = move || Command::new("sh").args(["-c", &here.replace("curl ", "curl -s ")]).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(fold(&printed), fold(&expected), "$ {command}\nprinted: {printed}");
    }
}
