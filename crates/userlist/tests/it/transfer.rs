//! Import and export: over HTTP, and on the command line.

use std::{fmt::Write as _, path::Path, process::Command, time::Duration};

use nix::sys::signal::Signal;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use testkit::{
    chaos_proxy::ChaosProxy,
    database::Database,
    process::Process,
    wait::{SOON, wait_until},
};

use crate::service::{Client, Reply, Service};

async fn start() -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await, folder)
}

async fn import(client: &Client, query: &str, file: impl Into<Body>) -> Reply {
    client.send_with(Method::POST, &format!("/v1/import?{query}"), &[], file).await
}

async fn total(client: &Client) -> i64 {
    client.get("/v1/users?limit=1").await.body["total"].as_i64().unwrap()
}

fn table(users: usize) -> String {
    let mut table = "name,email,tags\n".to_owned();
    for n in 0..users {
        writeln!(table, "user-{n:07},u{n}@example.com,imported").unwrap();
    }
    table
}

#[tokio::test]
async fn a_file_is_put_line_by_line_and_its_mistakes_are_told_by_line() {
    let (service, _folder) = start().await;
    let client = &service.client;
    client.send(Method::PUT, "/v1/users/old", r#"{"email":"old@example.com","status":"unsubscribed"}"#).await;
    client.send(Method::PUT, "/v1/users/same", r#"{"email":"same@example.com"}"#).await;
    let file = "name,email,status,tags,attributes\n\
                new,new@example.com,bounced,a;b,\"{\"\"plan\"\":\"\"pro\"\"}\"\n\
                old,moved@example.com,,,\n\
                wrong,nowhere,away,,\n\
                same,same@example.com,,,\n\
                new,newer@example.com,,,\n";

    let tried = import(client, "format=csv&dry_run=true", file).await;
    assert_eq!((tried.status, &tried.body["dry_run"], &tried.body["is_complete"]), (200, &json!(true), &json!(true)));
    assert_eq!((total(client).await, &tried.body["refused"]), (2, &json!(1)), "a dry run stores nothing");

    let done = import(client, "format=csv", file).await.body;
    assert_eq!(
        done,
        json!({"dry_run": false, "is_complete": true, "stored_to_line": 6, "created": 1, "changed": 2, "unchanged": 1,
               "refused": 1, "errors_left_out": 0, "errors": [
                   {"line": 4, "field": "email", "reason": done["errors"][0]["reason"]},
                   {"line": 4, "field": "status", "reason": done["errors"][1]["reason"]}]})
    );
    let new = client.get("/v1/users/new").await.body;
    assert_eq!((&new["email"], &new["status"]), (&json!("newer@example.com"), &json!("bounced")), "the last line wins");
    assert_eq!((&new["tags"], &new["attributes"]), (&json!(["a", "b"]), &json!({"plan": "pro"})));
    let old = client.get("/v1/users/old").await.body;
    assert_eq!(
        (&old["email"], &old["status"]),
        (&json!("moved@example.com"), &json!("unsubscribed")),
        "an empty cell changes nothing"
    );
}

#[tokio::test]
async fn what_was_exported_can_be_imported_elsewhere() {
    let (here, _folder) = start().await;
    let (there, _other_folder) = start().await;
    for body in [
        json!({"name": "comma, \"quote\"", "email": "a@example.com", "tags": ["x", "y"], "attributes": {"a": "b,\"c\"\n"}}),
        json!({"name": "=1+1", "email": "Jörg@bücher.example", "status": "bounced"}),
        json!({"name": "😀", "email": "e@example.com"}),
    ] {
        assert_eq!(here.client.send(Method::POST, "/v1/users", &body.to_string()).await.status, 201);
    }
    for format in ["csv", "ndjson"] {
        let file = reqwest::get(here.client.address(&format!("/v1/export?format={format}"))).await.unwrap();
        let file = file.text().await.unwrap();
        let done = import(&there.client, &format!("format={format}"), file).await.body;
        let (created, unchanged) = if format == "csv" { (3, 0) } else { (0, 3) };
        assert_eq!(
            (&done["created"], &done["unchanged"], &done["refused"]),
            (&json!(created), &json!(unchanged), &json!(0)),
            "{format}"
        );
    }
    let users = |list: Value| -> Vec<Value> {
        let what =
            |user: &Value| json!([user["name"], user["email"], user["status"], user["tags"], user["attributes"]]);
        list["users"].as_array().unwrap().iter().map(what).collect()
    };
    assert_eq!(users(here.client.get("/v1/users").await.body), users(there.client.get("/v1/users").await.body));
    let bounced = reqwest::get(here.client.address("/v1/export?format=ndjson&status=bounced")).await.unwrap();
    assert_eq!(bounced.text().await.unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_file_that_breaks_off_says_what_is_stored() {
    let (service, _folder) = start().await;
    let client = &service.client;
    let endless = format!(
        "{}last,\"{}",
        table(700).replace("tags", "status").replace("imported", "active"),
        "x".repeat(1_000_000)
    );
    let stopped = import(client, "format=csv", endless).await;
    assert_eq!((stopped.status, stopped.code()), (422, "record_too_long"));
    assert_eq!(
        (&stopped.body["report"]["stored_to_line"], &stopped.body["report"]["is_complete"]),
        (&json!(701), &json!(false))
    );
    assert_eq!(total(client).await, 700);

    for (query, file, status, field) in [
        ("", "name,email\n", 422, "format"),
        ("format=xml", "", 422, "format"),
        ("format=csv&dry_run=yes", "", 422, "dry_run"),
        ("format=csv&tags=a", "", 422, "tags"),
        ("format=csv", "name,mail\na,a@b.c\n", 422, "header"),
        ("format=csv", "", 422, "header"),
    ] {
        let reply = import(client, query, file).await;
        assert_eq!((reply.status, reply.fields()), (status, vec![field]), "{query}");
    }
    let media = client
        .send_with(Method::POST, "/v1/import", &[("content-type", "text/csv; charset=utf-8")], "name,email\na,a@b.c\n")
        .await;
    assert_eq!((media.status, &media.body["created"]), (200, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_outlives_a_restart_of_its_database_and_a_broken_connection() {
    let mut database = Database::start().await;
    let url = database.create("users");
    let mut network = ChaosProxy::start(([127, 0, 0, 1], database.port()).into()).await;
    let url = url.replace(&format!(":{}/", database.port()), &format!(":{}/", network.address().port()));
    let service = Service::start(&url).await;
    let client = service.client.clone();
    // The file comes in pieces, so that the import is under way while its database goes.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let importing = tokio::spawn(async move { import(&client, "format=csv", body).await });
    let table = table(6000);
    let pieces: Vec<&str> = table.split_inclusive('\n').collect();
    for (n, piece) in pieces.chunks(1000).enumerate() {
        match n {
            2 => {
                database.kill();
                database.run().await;
            }
            4 => {
                network.swallow();
                tokio::time::sleep(Duration::from_millis(300)).await;
                network.restore();
            }
            _ => {}
        }
        sender.send(Ok(piece.concat())).await.unwrap();
    }
    drop(sender);
    let report = importing.await.unwrap();
    assert_eq!(
        (report.status, &report.body["is_complete"], &report.body["refused"]),
        (200, &json!(true), &json!(0)),
        "{:?}",
        report.body
    );
    assert_eq!(database.sql("SELECT COUNT(*), COUNT(DISTINCT name) FROM users.users"), "6000\t6000\n");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_into_a_read_only_database_fails_clearly() {
    let database = Database::start().await;
    let service = Service::start(&database.create("users")).await;
    database.sql("SET GLOBAL read_only = 1");
    let stopped = import(&service.client, "format=csv", table(10)).await;
    stopped.assert_unavailable("read_only");
    assert_eq!(stopped.body["report"]["stored_to_line"], 0);
    service.end().await;
}

fn userlist(folder: &Path, url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_userlist"));
    command.env_clear().env("USERLIST_DATABASE_URL", url).current_dir(folder);
    command
}

#[test]
fn the_command_line_imports_and_exports() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    std::fs::write(folder.path().join("users.csv"), table(1200)).unwrap();
    let run = |args: &[&str]| {
        let output = userlist(folder.path(), &url).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, printed, log) = run(&["import", "users.csv"]);
    assert_eq!(code, Some(0), "{log}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&report["created"], &report["is_complete"]), (&json!(1200), &json!(true)));

    let (code, ..) = run(&["export", "all.ndjson"]);
    assert_eq!(code, Some(0));
    assert_eq!(std::fs::read_to_string(folder.path().join("all.ndjson")).unwrap().lines().count(), 1200);
    let (code, _, log) = run(&["export", "all.ndjson"]);
    assert!(code == Some(1) && log.contains("cannot create"), "what is there is kept: {log}");

    std::fs::write(folder.path().join("wrong.csv"), "name,email\na,a@b.c\nb,nowhere\n").unwrap();
    let (code, printed, log) = run(&["import", "wrong.csv"]);
    assert!(
        code == Some(1) && printed.contains("\"line\": 3") && log.contains("1 lines were refused"),
        "{printed} {log}"
    );
    let (code, _, log) = run(&["import", "missing.csv"]);
    assert!(code == Some(1) && log.contains("cannot open missing.csv"), "{log}");
    let (code, _, log) = run(&["import", "users.txt"]);
    assert!(code == Some(1) && log.contains("--format"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_interrupted_says_to_which_line_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    std::fs::write(folder.path().join("users.csv"), table(400_000)).unwrap();
    let mut command = userlist(folder.path(), &url);
    let mut process = Process::start(command.args(["import", "users.csv"]), &folder.path().join("log")).unwrap();
    let count = async || {
        let file = format!("{url}?mode=ro");
        let rows = async {
            let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&file).await.ok()?;
            sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM users").fetch_one(&mut connection).await.ok()
        };
        rows.await.unwrap_or(0)
    };
    wait_until("something is stored", SOON, || async { count().await > 0 }).await;
    assert!(process.signal(Signal::SIGTERM));
    let status = process.wait(SOON).expect("it ends soon");
    assert_eq!(status.code(), Some(1), "{}", process.output());
    let output = process.output();
    let stored: i64 = output.split("\"stored_to_line\": ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert_eq!(count().await, stored - 1, "every line but the header, and nothing after it: {output}");
    assert!(output.contains("interrupted"), "{output}");
}
