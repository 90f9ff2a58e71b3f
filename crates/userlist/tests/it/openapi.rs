//! The description for programs, and what the service does.

use std::time::Duration;

use reqwest::Method;
use testkit::python::{python, succeed};

use crate::service::Service;

async fn start() -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Service::start(&format!("sqlite:{}/users.db", folder.path().display())).await, folder)
}

#[tokio::test]
async fn every_route_is_described_and_everything_described_is_a_route() {
    let source = include_str!("../../src/http.rs");
    assert_eq!(source.matches(".route(").count(), 1, "only the import of before goes without a description");
    let (service, _folder) = start().await;
    let client = &service.client;
    let description = client.get("/openapi.json").await;
    assert_eq!(description.headers["content-type"], "application/json");
    let described = description.body["paths"].as_object().unwrap().len();
    assert_eq!(described, 6 + 4, "those of users, and those that every service has");
    for (path, methods) in description.body["paths"].as_object().unwrap() {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let is_described = methods.get(method.as_str().to_lowercase()).is_some();
            let reply = client.send(method.clone(), &path.replace("{name}", "dong").replace("{id}", "7"), "{}").await;
            assert_eq!(reply.status != 405, is_described, "{method} {path}: {}", reply.status);
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    let (service, _folder) = start().await;
    let described = service.client.get("/openapi.json").await.body;
    let text = described.to_string();
    let references = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
    let mut count = 0;
    for reference in references {
        assert!(described.pointer(reference).is_some(), "{reference}");
        count += 1;
    }
    assert!(count > 100, "{count} references");
}

#[tokio::test]
async fn every_code_of_an_error_is_in_the_documentation() {
    let document = include_str!("../../../../doc/api/userlist.md");
    for code in [
        "no_such_user",
        "user_exists",
        "email_taken",
        "condition_failed",
        "database_unavailable",
        "read_only",
        "database_full",
        "outcome_unknown",
        "malformed_path",
        "record_too_long",
    ] {
        assert!(document.contains(&format!("`{code}`")), "{code} is not in doc/api/userlist.md");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_made_up_from_the_description_find_no_500_and_no_undescribed_answer() {
    let (service, _folder) = start().await;
    let mut command = python("schemathesis");
    command
        .args(["run", "--url", &service.client.address(""), "--max-examples", "3", "--seed", "1", "--workers", "2"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args([
            "--phases",
            "examples,fuzzing",
            "--no-color",
            "--request-timeout",
            "10",
            "--suppress-health-check",
            "all",
        ])
        .arg(service.client.address("/openapi.json"));
    let output = succeed(command, Duration::from_secs(120)).await;
    assert!(output.contains("Tested"), "{output}");
    let metrics: String = reqwest::get(service.client.address("/metrics")).await.unwrap().text().await.unwrap();
    assert!(
        !metrics.lines().any(|line| line.starts_with("http_requests_total") && line.contains("status=\"500\"")),
        "{metrics}"
    );
}
