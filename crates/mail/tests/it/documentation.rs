//! The lines of doc/api/mail.md about mail work when pasted, and print what it says.

use std::process::Command;

use testkit::{
    transcript::{Step, steps},
    wait::{SOON, wait_until},
};

use crate::process::Program;

const DOCUMENT: &str = include_str!("../../../../doc/api/mail.md");

/// Words of letters, digits and what stands in times, and what is between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | ':' | '.' | '_'))
}

fn bare(word: &str) -> &str {
    word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

fn is_id(word: &str) -> bool {
    word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit())
}

fn ids(text: &str) -> Vec<String> {
    words(text).map(bare).filter(|word| is_id(word)).map(str::to_owned).collect()
}

/// Without what is different every time: times, durations and ids.
fn fold(output: &str) -> String {
    let mut folded = String::new();
    let mut is_duration = false;
    for word in words(output) {
        let inner = bare(word.trim_start_matches(':'));
        let is_time = inner.len() == 24 && inner.starts_with("20") && inner.ends_with('Z');
        let is_different = is_time || is_id(inner) || is_duration && !inner.is_empty();
        is_duration = inner == "took_ms";
        folded.push_str(if is_different { "…" } else { word });
    }
    folded
}

async fn run(command: String) -> String {
    let quiet = command.replace("curl ", "curl -s ");
    let output = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &quiet]).output().unwrap());
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documentation_shows_is_what_happens() {
    let mail = Program::start(&[]).await;
    let steps = steps(DOCUMENT);
    assert!(steps.len() >= 9, "submit, look, requeue, template, suppress, list, bounce, broadcast");
    let mut here: Vec<(String, String)> = vec![("localhost:7070".to_owned(), mail.url.replace("http://", ""))];
    for Step { command, output } in steps {
        let expected = output.replace('\n', "");
        let line = here.iter().fold(command.clone(), |line, (there, here)| line.replace(there, here));
        let changes = command.contains(" -d ") || command.contains(" -X ");
        let mut printed = run(line.clone()).await;
        if !changes && fold(&printed) != fold(&expected) {
            // Messages are on their way meanwhile.
            wait_until(&format!("{line}\nprints {expected}\nnot {printed}"), SOON, || async {
                fold(&run(line.clone()).await) == fold(&expected)
            })
            .await;
            printed = run(line).await;
        }
        assert_eq!(fold(&printed), fold(&expected), "$ {command}\nprinted: {printed}");
        here.extend(ids(&expected).into_iter().zip(ids(&printed)));
    }
}
