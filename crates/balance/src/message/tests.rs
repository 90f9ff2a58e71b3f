//! What leaves of every head of the codec's corpus: a change of how it is read or written must not change a byte of it.

use std::{fmt::Write as _, fs, path::Path};

use discovery::{
    Instance,
    policy::{CorsScope, Restore},
};
use http1::{Limits, Method, Request, Response, Scan, parse_request, parse_response};

use crate::message::{
    cors::Cors,
    headers::Client,
    prefix::Prefix,
    request::{RequestMeta, Rewrite, Sizes, UpstreamRequest},
    request_id::RequestId,
    response::{self, FramingFields, GatewayHeaders},
};

/// Written by the code of before, and since then only ever added to.
const EXPECTED: &str = include_str!("tests/corpus.txt");

/// Each file of a folder of the corpus, by name.
fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../http1/fuzz/corpus").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: std::path::PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), path);
    let mut files: Vec<_> = entries.map(named).map(|(name, path)| (name, fs::read(path).unwrap())).collect();
    files.sort();
    files
}

fn client(is_trusted: bool) -> Client {
    Client::new("10.0.0.9".parse().unwrap(), is_trusted)
}

/// With an id that is always the same, unless the request brings one.
fn meta(request: &Request<'_>) -> RequestMeta {
    let id = match RequestId::settle(&request.fields) {
        RequestId::Own(_) => RequestId::Own(*b"0123456789abcdef0123456789abcdef"),
        given => given,
    };
    RequestMeta::of(request, id)
}

fn to_instance(request: &Request<'_>, is_trusted: bool) -> UpstreamRequest {
    let rewrite = Rewrite { rest: b"/rest?q", prefix: b"/mail", client: &client(is_trusted) };
    let sizes = Sizes { body_max_bytes: 1 << 20, replay_max_bytes: 64 };
    let mut leaving = UpstreamRequest::new(Vec::new(), request, rewrite, meta(request), sizes);
    leaving.complete_head(|| "10.0.0.5:7070".to_owned());
    leaving
}

fn to_client(response: &Response<'_>, cors: Cors, restore: Option<Restore>, framing: FramingFields) -> Vec<u8> {
    let asked = b"GET /mail HTTP/1.1\r\nHost: shop.example\r\nX-Request-Id: id-1\r\n\r\n";
    let mut scan = Scan::default();
    let asked = parse_request(asked, &mut scan, &Limits::default()).unwrap();
    let (request, instance) = (to_instance(&asked, false), Instance::at("10.0.0.5:7070".parse().unwrap()));
    let prefix = restore.map(|restore| Prefix { request: &request, instance: &instance, own: b"/mail", restore });
    let own = GatewayHeaders { date: b"Sat, 21 Nov 2026 12:00:00 GMT", cookie: None, prefix };
    let mut out = Vec::new();
    response::head(&mut out, response, &RequestMeta { cors, ..meta(&asked) }, own, framing);
    out
}

fn show(text: &mut String, name: &str, bytes: &[u8]) {
    writeln!(text, "== {name}").unwrap();
    bytes.split_inclusive(|byte| *byte == b'\n').for_each(|line| writeln!(text, "{}", line.escape_ascii()).unwrap());
}

fn requests(text: &mut String) {
    for (name, bytes) in corpus("request") {
        let Some(end) = Scan::default().read(&bytes, &Limits::default()) else { continue };
        let mut scan = Scan::default();
        match parse_request(&bytes[..end], &mut scan, &Limits::default()) {
            Ok(request) => {
                for (who, is_trusted) in [("a client", false), ("a trusted proxy", true)] {
                    show(text, &format!("request {name} of {who}"), to_instance(&request, is_trusted).bytes());
                }
            }
            Err(refusal) => show(text, &format!("request {name}"), refusal.to_string().as_bytes()),
        }
    }
}

fn responses(text: &mut String) {
    let for_service = || {
        let policy = discovery::policy::Cors {
            origins: vec!["*".to_owned()],
            applies_to: CorsScope::Service,
            ..Default::default()
        };
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n";
        let mut scan = Scan::default();
        Cors::of(&policy, &parse_request(head, &mut scan, &Limits::default()).unwrap())
    };
    let kept = FramingFields { is_chunked: false, connection: None };
    let chunked = FramingFields { is_chunked: true, connection: Some(b"close") };
    for (name, bytes) in corpus("response") {
        let Some(end) = Scan::default().read(&bytes, &Limits::default()) else { continue };
        let mut scan = Scan::default();
        match parse_response(&bytes[..end], &mut scan, &Limits::default(), &Method::Get) {
            Ok(response) => {
                show(text, &format!("response {name}"), &to_client(&response, Cors::Unsaid, None, kept));
                let changed = to_client(&response, for_service(), Some(Restore::Auto), chunked);
                show(text, &format!("response {name}, changed"), &changed);
            }
            Err(refusal) => show(text, &format!("response {name}"), refusal.to_string().as_bytes()),
        }
    }
}

#[test]
fn what_leaves_of_the_corpus_is_what_always_left() {
    let mut text = String::new();
    requests(&mut text);
    responses(&mut text);
    let differ = |(now, before): &(&str, &str)| now != before;
    let mut sections = text.split("== ").zip(EXPECTED.split("== "));
    let first = sections.find(differ).map(|(now, before)| format!("now {now}\nbefore {before}"));
    assert!(text == EXPECTED, "{}\nall of it now:\n{text}", first.unwrap_or_default());
}
