//! What a file of users is, what it is taken for, and what a dry run says of it.

use std::io::Write as _;

use reqwest::{Body, Method};
use serde_json::{Value, json};
use testkit::database::Database;

use crate::service::{Client, NO_REGISTRY, Reply, Service};

async fn import(client: &Client, query: &str, headers: &[(&str, &str)], file: impl Into<Body>) -> Reply {
    client.send_with(Method::POST, &format!("/v1/import?format=csv{query}"), headers, file).await
}

/// What happened to users, and to which lines nothing.
fn counts(report: &Value) -> Value {
    let lines: Vec<_> = report["errors"].as_array().into_iter().flatten().map(|error| &error["line"]).collect();
    json!([report["created"], report["changed"], report["unchanged"], report["refused"], lines])
}

async fn start() -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await, folder)
}

/// What one line of a file does to another: the same name again in a batch and in a later one, an address that is
/// taken, one that is given up, one that is swapped.
fn tangled() -> String {
    let mut file = "name,email,status,tags\n".to_owned();
    for (name, email, status, tags) in [
        ("new", "new@example.com", "", ""),
        ("new", "NEW@example.com", "", ""),
        ("other", "new@example.com", "", ""),
        ("old", "moved@example.com", "", ""),
        ("heir", "old@example.com", "", ""),
        ("old", "old@example.com", "", ""),
        ("late", "stranger@example.com", "", ""),
        ("stranger", "stranger@example.com", "bounced", "a;b"),
        ("stranger", "stranger@example.com", "bounced", "a;b"),
    ] {
        file.push_str(&format!("{name},{email},{status},{tags}\n"));
    }
    // More than a batch, so that what follows is in another one.
    for n in 0..600 {
        file.push_str(&format!("user-{n},u{n}@example.com,,\n"));
    }
    for (name, email) in [("new", "new@example.com"), ("twin", "u7@example.com"), ("user-7", "u7b@example.com")] {
        file.push_str(&format!("{name},{email},,\n"));
    }
    file.push_str("twin,u7@example.com,,\nuser-8,u8@example.com,unsubscribed,\n");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_exactly_what_a_run_does() {
    let database = Database::start().await;
    for unique in ["true", "false"] {
        let folder = tempfile::tempdir().unwrap();
        for url in [database.create(&format!("u_{unique}")), format!("sqlite:{}/users.db", folder.path().display())] {
            let service = Service::launch_with(&url, NO_REGISTRY, &["--unique-emails", unique]).await;
            let client = &service.client;
            client.wait_until_ready().await;
            for name in ["old", "stranger"] {
                let body = format!(r#"{{"email":"{name}@example.com"}}"#);
                assert_eq!(client.send(Method::PUT, &format!("/v1/users/{name}"), &body).await.status, 201);
            }
            let before = client.get("/v1/users?sort=name&limit=1000").await.body;
            let mut tried = import(client, "&dry_run=true", &[], tangled()).await.body;
            assert_eq!(client.get("/v1/users?sort=name&limit=1000").await.body, before, "it changes nothing");
            assert_eq!((&tried["dry_run"], &tried["stored_to_line"]), (&json!(true), &json!(0)));
            let done = import(client, "", &[], tangled()).await.body;
            (tried["dry_run"], tried["stored_to_line"]) = (json!(false), done["stored_to_line"].clone());
            assert_eq!(tried, done, "unique: {unique}");
            let expected = match unique {
                // Taken: new's by other, old's by heir, stranger's by late; user-7 gives its address up before the
                // second twin.
                "true" => json!([603, 6, 1, 4, [4, 7, 8, 612]]),
                _ => json!([605, 7, 2, 0, []]),
            };
            assert_eq!(counts(&done), expected, "unique: {unique}: {done}");
            service.end().await;
        }
    }
}

#[tokio::test]
async fn a_dry_run_does_not_block_changes() {
    let (service, _folder) = start().await;
    // A file that never ends, of which a batch has been tried.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let client = service.client.clone();
    let trying = tokio::spawn(async move { import(&client, "&dry_run=true", &[], body).await });
    sender.send(Ok(tangled())).await.unwrap();
    for n in 0..20 {
        let put =
            service.client.send(Method::PUT, &format!("/v1/users/user-{n}"), r#"{"email":"x@example.com"}"#).await;
        assert_eq!(put.status, 201);
    }
    drop(sender);
    assert_eq!(trying.await.unwrap().status, 200);
    service.end().await;
}

#[tokio::test]
async fn a_file_that_is_something_else_is_named_as_what_it_is() {
    let (service, _folder) = start().await;
    let utf16: Vec<u8> = "\u{feff}name,email\na,a@b.c\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let files: [(&str, &[u8], &str, &str, &str); 12] = [
        ("", &utf16, "invalid_field", "file", "UTF-16"),
        ("", &utf16[2..], "invalid_field", "file", "UTF-16"),
        ("", b"PK\x03\x04rest", "invalid_field", "file", "workbook"),
        ("", b"\x1f\x8b\x08rest", "invalid_field", "file", "Content-Encoding: gzip"),
        ("", b"name;email\na;a@b.c\n", "invalid_field", "header", "delimiter=semicolon"),
        ("", b"name\temail\na\ta@b.c\n", "invalid_field", "header", "delimiter=tab"),
        ("&delimiter=semicolon", b"name,email\na,a@b.c\n", "invalid_field", "header", "delimiter=comma"),
        ("", b"name,email,mail\na,a@b.c,x\n", "invalid_field", "header", "\"mail\""),
        ("", b"a,a@b.c\nb,b@b.c\n", "invalid_field", "header", "an address"),
        ("", b"name,email\na,a@b.c\nb,\"b@b.c\nc,c@b.c\n", "quote_not_closed", "", "line 3"),
        ("&column=email:E-mail", b"name,email\na,a@b.c\n", "invalid_field", "header", "\"E-mail\""),
        ("&column=email:E-mail", b"name,email,E-mail\na,a@b.c,d@b.c\n", "invalid_field", "header", "two columns"),
    ];
    for (query, file, code, field, hint) in files {
        let reply = import(&service.client, query, &[], file.to_vec()).await;
        let detail = reply.body["detail"].as_str().unwrap_or_default();
        assert_eq!((reply.status, reply.code()), (422, code), "{hint}: {}", reply.body);
        assert_eq!(*reply.fields().first().unwrap_or(&""), field, "{hint}: {}", reply.body);
        assert!(detail.contains(hint), "{hint} is not in {detail}");
    }
    let users = service.client.get("/v1/users").await.body;
    assert_eq!(
        (&users["total"], &users["users"][0]["name"]),
        (&json!(1), &json!("a")),
        "what comes before a quote is stored"
    );

    let reply = import(&service.client, "", &[], "name,email\nb,b@b.c,extra\n\"c\"x,c@b.c\n").await.body;
    let reason = reply["errors"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("3 cells, the header has 2") && reason.contains("quotes"), "{reason}");
    assert_eq!(reply["created"], 1, "what comes after a quote belongs to the cell");
}

#[tokio::test]
async fn columns_are_mapped_passed_over_and_every_user_tagged() {
    let (service, _folder) = start().await;
    let client = &service.client;
    client.send(Method::PUT, "/v1/users/b@example.com", r#"{"email":"b@example.com","tags":["old"]}"#).await;
    let file = "E-mail;Plan;Labels;Note;Plan size\na@example.com;pro;x;hello;7\nb@example.com;;;;\n";
    let query = "&delimiter=semicolon&column=email:E-mail&column=name:E-mail&column=attributes.plan:Plan&column=tags:Labels\
                 &column=attributes.size:Plan%20size&ignore_columns=true&add_tag=spring&add_tag=y";
    let report = import(client, query, &[], file).await.body;
    assert_eq!(counts(&report), json!([1, 1, 0, 0, []]), "{report}");
    let user = client.get("/v1/users/a@example.com").await.body;
    assert_eq!((&user["email"], &user["tags"]), (&json!("a@example.com"), &json!(["spring", "x", "y"])));
    assert_eq!(user["attributes"], json!({"plan": "pro", "size": "7"}));
    let user = client.get("/v1/users/b@example.com").await.body;
    assert_eq!(user["tags"], json!(["old", "spring", "y"]), "an empty cell leaves what is stored");
    let again = import(client, query, &[], file).await.body;
    assert_eq!(counts(&again), json!([0, 0, 2, 0, []]), "{again}");

    for (query, field) in [
        ("&delimiter=pipe", "delimiter"),
        ("&column=email", "column"),
        ("&column=mail:E-mail", "column"),
        ("&add_tag=a%20b", "add_tag"),
        ("&ignore_columns=1", "ignore_columns"),
    ] {
        let reply = import(client, query, &[], file).await;
        assert_eq!((reply.status, reply.fields()), (422, vec![field]), "{query}");
    }
    let lines = client.send_with(Method::POST, "/v1/import?format=ndjson&column=email:E-mail", &[], "").await;
    assert_eq!((lines.status, lines.fields()), (422, vec!["column"]), "lines of JSON have no columns");
    let lines = r#"{"name":"c","email":"c@example.com"}"#;
    client.send_with(Method::POST, "/v1/import?format=ndjson&add_tag=z", &[], lines).await;
    assert_eq!(client.get("/v1/users/c").await.body["tags"], json!(["z"]));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

#[tokio::test]
async fn a_compressed_file_is_unpacked_and_what_it_becomes_is_bounded() {
    let (service, _folder) = start().await;
    let client = &service.client;
    for (coding, file) in [("gzip", "name,email\na,a@b.c\n"), ("X-GZIP", "name,email\nb,b@b.c\n")] {
        let reply = import(client, "", &[("content-encoding", coding)], gzip(file.as_bytes())).await;
        assert_eq!((reply.status, &reply.body["created"]), (200, &json!(1)), "{coding}: {}", reply.body);
    }
    let two = [gzip(b"name,email\nc,c@b.c\n"), gzip(b"d,d@b.c\n")].concat();
    assert_eq!(import(client, "", &[("content-encoding", "gzip")], two).await.body["created"], 2, "two members");

    // 32 MB in some 40 kB.
    let line = format!("a,{}\n", "x".repeat(2000));
    let bomb = gzip(format!("name,email\n{}", line.repeat(16_000)).as_bytes());
    assert!(bomb.len() < 100_000);
    let whole = gzip(b"name,email\ne,e@b.c\nf,f@b.c\n");
    for (file, status, code) in [
        (bomb, 413, "body_too_large"),
        (whole[..whole.len() - 12].to_vec(), 400, "body_cut_off"),
        (b"name,email\n".to_vec(), 400, "malformed_encoding"),
    ] {
        let reply = import(client, "", &[("content-encoding", "gzip")], file).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.body);
    }
    for coding in ["br", "gzip, gzip", "zstd"] {
        let reply = import(client, "", &[("content-encoding", coding)], whole.clone()).await;
        assert_eq!(
            (reply.status, reply.code(), reply.header("accept-encoding")),
            (415, "unsupported_encoding", Some("gzip"))
        );
    }
    let body = r#"{"name":"g","email":"g@b.c"}"#;
    let reply =
        client.send_with(Method::POST, "/v1/users", &[("content-encoding", "gzip")], gzip(body.as_bytes())).await;
    assert_eq!((reply.status, reply.code()), (415, "unsupported_encoding"), "elsewhere nothing is unpacked");
}

#[tokio::test]
async fn numbers_beyond_64_bits_and_keys_that_come_twice_are_refused() {
    let (service, _folder) = start().await;
    let client = &service.client;
    client.send(Method::PUT, "/v1/users/a", r#"{"email":"a@b.c"}"#).await;
    for (attributes, field) in [
        (r#"{"n":123456789012345678901234567890}"#, "attributes"),
        (r#"{"n":[{"m":-9223372036854775809}]}"#, "attributes"),
        (r#"{"n":1e300}"#, "attributes"),
        (r#"{"n":1,"n":2}"#, "attributes.n"),
        (r#"{"n":{"m":1,"m":1}}"#, "attributes.n.m"),
    ] {
        let whole = format!(r#"{{"email":"a@b.c","attributes":{attributes}}}"#);
        for (method, body) in
            [(Method::PUT, whole.clone()), (Method::PATCH, format!(r#"{{"attributes":{attributes}}}"#))]
        {
            let reply = client.send(method.clone(), "/v1/users/a", &body).await;
            assert_eq!((reply.status, reply.fields()), (422, vec![field]), "{method} {attributes}: {}", reply.body);
        }
        let line = format!(r#"{{"name":"b",{}"#, &whole[1..]);
        let lines = client.send_with(Method::POST, "/v1/import?format=ndjson", &[], line).await;
        assert_eq!(lines.body["refused"], 1, "{}", lines.body);
        let cell = format!("name,email,attributes\nb,b@b.c,\"{}\"\n", attributes.replace('"', "\"\""));
        assert_eq!(import(client, "", &[], cell).await.body["refused"], 1);
    }
    let reply = client.send(Method::PATCH, "/v1/users/a", r#"{"status":"active","status":"bounced"}"#).await;
    assert_eq!((reply.status, reply.fields()), (422, vec!["status"]));
    let numbers = r#"{"attributes":{"n":[18446744073709551615,-9223372036854775808,0.1]}}"#;
    let kept = client.send(Method::PATCH, "/v1/users/a", numbers).await;
    assert_eq!(kept.body["attributes"]["n"], json!([u64::MAX, i64::MIN, 0.1]));
    assert_eq!(client.get("/v1/users").await.body["total"], 1);
}

#[tokio::test]
async fn an_export_for_a_spreadsheet_has_no_formulas() {
    let (service, _folder) = start().await;
    let client = &service.client;
    let names = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "plain", "a=1"];
    for name in names {
        let body = json!({"name": name, "email": "=cmd@example.com"}).to_string();
        assert_eq!(client.send(Method::POST, "/v1/users", &body).await.status, 201, "{name}");
    }
    let export = async |query: &str| {
        let response = reqwest::get(client.address(&format!("/v1/export?{query}"))).await.unwrap();
        response.bytes().await.unwrap()
    };
    let plain = String::from_utf8(export("").await.to_vec()).unwrap();
    assert!(plain.contains(",=1+1,=cmd@example.com,"), "by default every cell is what it is: {plain}");
    let defused = export("spreadsheet=true").await;
    let table = std::str::from_utf8(&defused).unwrap();
    let mut rows = table.strip_prefix('\u{feff}').expect("a byte order mark").lines().skip(1);
    for (n, name) in names.iter().enumerate() {
        let mark = if n < 5 { "'" } else { "" };
        let row = rows.next().unwrap();
        assert!(row.contains(&format!(",{mark}{name},'=cmd@example.com,")), "{row}");
    }
    let reply = client.get("/v1/export?format=ndjson&spreadsheet=true").await;
    assert_eq!((reply.status, reply.fields()), (422, vec!["spreadsheet"]));
}
