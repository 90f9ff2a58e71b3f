//! The fuzzers' corpus, as ordinary tests.

use std::{fs, path::Path};

use crate::checks;

/// Runs `check` over each file of one target; it says whether the input was accepted.
fn run(target: &str, check: impl Fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let accepted = check(&fs::read(&path).unwrap());
        assert!(accepted || !name.starts_with("accept-"), "{target}/{name} is refused");
        assert!(!accepted || !name.starts_with("refuse-"), "{target}/{name} is accepted");
        files += 1;
    }
    assert!(files >= 10, "{} holds only {files} files", folder.display());
}

#[test]
fn every_request_of_the_corpus_is_judged_as_its_name_says() {
    run("request", |input| matches!(checks::request(input), Some(Ok(_))));
}

#[test]
fn every_response_of_the_corpus_is_judged_as_its_name_says() {
    run("response", |input| matches!(checks::response(input), Some(Ok(_))));
}

#[test]
fn every_body_of_the_corpus_is_judged_as_its_name_says() {
    run("body", |input| checks::body(input).is_ok());
}
