//! The folder: a message that was accepted is a whole file, and one that was not is no file.

use std::{fs, path::Path};

use futures::future::join_all;
use serde_json::json;

use crate::service::Mail;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_message_becomes_one_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/mail");
    let mail = Mail::into_folder(&folder);
    let answer = mail.post(&json!({ "address": "a@b.c", "message": "hello", "subject": "Hi" })).await;
    answer.assert(200, "success");
    let id = answer.header("x-message-id").unwrap();
    let name = format!("{}.eml", id.trim_start_matches('<').split('@').next().unwrap());
    assert_eq!(names(&folder), [name.as_str()]);
    let text = fs::read_to_string(folder.join(name)).unwrap();
    assert!(text.contains(&format!("Message-ID: {id}\r\n")) && text.contains("To: a@b.c\r\n"), "{text}");
    assert!(text.contains("Subject: Hi\r\n") && text.ends_with("\r\n\r\nhello\r\n"), "{text}");
    assert_eq!(mail.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn many_at_a_time_are_as_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let mail = Mail::into_folder(dir.path());
    let answers = join_all((0..50).map(|_| mail.send())).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let names = names(dir.path());
    assert!(names.len() == 50 && names.iter().all(|name| name.ends_with(".eml")), "{names:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_503_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let mail = Mail::into_folder(&in_the_way.join("mail"));
    let answer = mail.send().await;
    answer.assert(503, "storage_failed");
    assert!(answer.header("retry-after").is_some() && answer.detail().contains("ot a directory"), "{answer:?}");
    assert_eq!(mail.get("/readyz").await.status, 503);
    fs::remove_file(&in_the_way).unwrap();
    mail.send().await.assert(200, "success");
    assert_eq!(mail.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_folder_that_somebody_removed_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("mail");
    let mail = Mail::into_folder(&folder);
    mail.send().await.assert(200, "success");
    fs::remove_dir_all(&folder).unwrap();
    mail.send().await.assert(200, "success");
    assert_eq!(names(&folder).len(), 1);
}
