//! What comes in, whole and broken.

use base64::Engine as _;

use super::*;
use crate::message::content::IN_MEMORY_MAX_BYTES;

fn taken(body: &str) -> Result<MessageRequest, Problem> {
    read(body.as_bytes(), &SpoolDir::of_the_system())
}

fn field(body: &str) -> (u16, String) {
    let problem = taken(body).unwrap_err();
    let field = problem.errors.first().map_or(problem.code.into_owned(), |error| error.field.clone());
    (problem.status.as_u16(), field)
}

#[test]
fn files_are_found_wherever_they_stand_and_the_rest_is_as_it_was() {
    let bytes = b"\xfb\xff/\0".repeat(1000);
    // Some encoders escape the slash.
    let content = base64::prelude::BASE64_STANDARD.encode(&bytes).replace('/', "\\/");
    let file = |name: &str| format!(r#"{{"content":"{content}","filename":"{name}","content_type":null}}"#);
    for (before, after) in [("", r#","subject":"x","to":"a@b.c""#), (r#""subject":"x","to":"a@b.c","#, "")] {
        let body = format!(r#" {{{before}"attachments":[{},{}]{after}}} "#, file("a"), file("b"));
        let submission = taken(&body).unwrap().submission;
        assert_eq!((submission.subject.as_deref(), &submission.to), (Some("x"), &Value::from("a@b.c")));
        assert_eq!(submission.attachments.len(), 2);
        for (file, name) in submission.attachments.iter().zip(["a", "b"]) {
            let mut content = Vec::new();
            file.content.reader().read_to_end(&mut content).unwrap();
            assert!(file.filename == name && content == bytes);
        }
    }
    let none = taken(r#"{"to":"a@b.c","attachments":[{"filename":"empty","content":""}]}"#).unwrap().submission;
    assert!(none.attachments[0].content.is_empty());
}

#[test]
fn the_same_bytes_have_the_same_fingerprint_however_they_come_in() {
    /// One byte at a time.
    struct Drops<'b>(&'b [u8]);
    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(out.len()).min(1);
            self.0.read(&mut out[..count])
        }
    }
    let body = r#"{"to":"a@b.c","attachments":[{"filename":"a","content":"aGVsbG8="}]}   "#;
    let whole = taken(body).unwrap().fingerprint;
    let drops = read(Drops(body.as_bytes()), &SpoolDir::of_the_system()).unwrap().fingerprint;
    assert!(whole == drops && whole.len() == 64);
    assert_ne!(taken(body.trim_end()).unwrap().fingerprint, whole);
}

#[test]
fn what_is_wrong_is_named() {
    for (body, status, named) in [
        ("", 400, "malformed_json"),
        ("{", 400, "malformed_json"),
        ("{\"to\":\"a@b.c\"", 400, "malformed_json"),
        ("{\"to\":\"a@b.c\",}", 400, "malformed_json"),
        ("{\"to\":\"a@b.c\"} x", 400, "malformed_json"),
        ("{\"to\":\"\x07\"}", 400, "malformed_json"),
        ("{\"attachments\":[{\"content\":\"aGVs", 400, "malformed_json"),
        ("{\"attachments\":[{\"content\":\"\\q\"}]}", 400, "malformed_json"),
        ("[]", 422, "body"),
        ("17", 422, "body"),
        ("{\"subject\":1}", 422, "subject"),
        ("{\"color\":1}", 422, "color"),
        ("{\"to\":1,\"to\":2}", 422, "to"),
        ("{\"attachments\":null}", 422, "attachments"),
        ("{\"attachments\":[],\"attachments\":[]}", 422, "attachments"),
        ("{\"attachments\":[1]}", 422, "attachments[0]"),
        ("{\"attachments\":[{\"filename\":\"a\"}]}", 422, "attachments[0].content"),
        ("{\"attachments\":[{\"content\":\"\"}]}", 422, "attachments[0].filename"),
        ("{\"attachments\":[{\"filename\":1}]}", 422, "attachments[0].filename"),
        ("{\"attachments\":[{\"filename\":\"a\",\"content\":1}]}", 422, "attachments[0].content"),
        ("{\"attachments\":[{\"filename\":\"a\",\"content\":\"a b\"}]}", 422, "attachments[0].content"),
        ("{\"attachments\":[{\"filename\":\"a\",\"content\":\"aGVsbG8\"}]}", 422, "attachments[0].content"),
        ("{\"attachments\":[{\"content\":\"\",\"content\":\"\"}]}", 422, "attachments[0].content"),
        ("{\"attachments\":[{\"color\":\"\"}]}", 422, "attachments[0].color"),
    ] {
        assert_eq!(field(body), (status, named.to_owned()), "{body}");
    }
    let deep = format!("{{\"data\":{}", "[".repeat(1000));
    assert_eq!(field(&deep), (400, "malformed_json".to_owned()));
}

#[test]
fn only_files_may_be_large() {
    let large = "x".repeat(TEXT_MAX_BYTES + 2048);
    assert_eq!(field(&format!(r#"{{"text":"{large}"}}"#)), (422, "text".to_owned()));
    assert_eq!(field(&format!(r#"{{"to":"{}"}}"#, &large[..FIELD_MAX_BYTES + 2048])), (422, "to".to_owned()));
    assert_eq!(field(&format!(r#"{{{}"to":1}}"#, " ".repeat(2 * FIELD_MAX_BYTES))).0, 413);
    assert_eq!(field(&format!(r#"{{"{large}":1}}"#)).0, 413);
    assert_eq!(field(r#"{"text":[0,0]}"#), (422, "text".to_owned()));
    let many: Vec<String> = (0..=FIELDS_MAX).map(|index| format!(r#""{index}":1"#)).collect();
    assert_eq!(field(&format!("{{{}}}", many.join(","))), (422, "32".to_owned()));
    let files = [r#"{"filename":"a","content":""}"#; ATTACHMENTS_MAX + 1].join(",");
    assert_eq!(field(&format!(r#"{{"attachments":[{files}]}}"#)), (422, "attachments".to_owned()));
    let content = "AAAA".repeat(IN_MEMORY_MAX_BYTES / 3 + 1);
    let body = format!(r#"{{"attachments":[{{"filename":"a","content":"{content}"}}],"text":"x"}}"#);
    assert!(taken(&body).unwrap().submission.attachments[0].content.in_memory().is_none());
}

#[test]
fn numbers_of_any_size_are_numbers() {
    let data = taken(r#"{"data":{"a":1e100,"b":-0.5,"c":18446744073709551615}}"#).unwrap().submission.data;
    assert_eq!(data, serde_json::json!({ "a": 1e100, "b": -0.5, "c": u64::MAX }));
    assert_eq!(field(r#"{"data":184467440737095516150}"#), (422, "data".to_owned()));
}
