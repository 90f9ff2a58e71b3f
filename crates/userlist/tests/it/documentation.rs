//! The lines of doc/api/userlist.md about users work when pasted, and print what it says.

use std::process::Command;

use testkit::transcript::{Step, steps};

use crate::service::Service;

const DOCUMENT: &str = include_str!("../../../../doc/api/userlist.md");

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
    let steps = steps(DOCUMENT);
    assert!(steps.len() >= 6, "put, patch, find, a condition, import, export");
    for Step { command, output: expected } in steps {
        let here = command.replace("localhost:6060", service.client.address("").trim_start_matches("http://"));
        let run = move || Command::new("sh").args(["-c", &here.replace("curl ", "curl -s ")]).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(fold(&printed), fold(&expected), "$ {command}\nprinted: {printed}");
    }
}
