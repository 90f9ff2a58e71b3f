//! The description for programs, and what the service does.

use std::time::Duration;

use serde_json::Value;
use testkit::{
    python::{python, succeed},
    smtp_sink::SmtpSink,
};

use crate::{process::Program, service::Mail};

#[tokio::test]
async fn every_route_is_described_and_everything_described_is_a_route() {
    let source = include_str!("../../src/http.rs");
    assert!(!source.contains(".route("), "a handler says in #[utoipa::path] where it is; routes!(…) makes the route");
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let description = mail.get("/openapi.json").await;
    assert_eq!(description.header("content-type"), Some("application/json"));
    assert_eq!(description.body["openapi"], "3.1.0");
    let described = description.body["paths"].as_object().unwrap().len();
    assert_eq!(described, 18 + 4, "those of mail, and those that every service has");
    for (path, methods) in description.body["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            let answer = mail.call(&method.to_uppercase(), &path.replace(['{', '}'], ""), &Value::Null).await;
            assert_eq!(answer.status != 405, methods.get(method).is_some(), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    let sink = SmtpSink::start().await;
    let described = Mail::over(&sink, &[]).get("/openapi.json").await.body;
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
async fn a_path_that_is_no_text_is_a_problem_like_any_other() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for path in ["/v1/messages/%ff", "/v1/templates/%ff", "/v1/broadcasts/%ff", "/v1/unsubscribe/%ff"] {
        let answer = mail.get(path).await;
        answer.assert(400, "malformed_path");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_made_up_from_the_description_find_no_500_and_no_undescribed_answer() {
    let mail = Program::start(&[]).await;
    let mut command = python("schemathesis");
    command
        .args(["run", "--url", &mail.url, "--max-examples", "8", "--seed", "1", "--workers", "2"])
        .args([
            "--checks",
            // Not `not_a_server_error`: 503 is described, and right where there is no gateway to ask for a user.
            "status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--phases", "examples,fuzzing", "--no-color", "--request-timeout", "10"])
        .args(["--suppress-health-check", "all"])
        .arg(format!("{}/openapi.json", mail.url));
    let output = succeed(command, Duration::from_secs(120)).await;
    assert!(output.contains("Tested"), "{output}");
    let (_, metrics) = mail.get("/metrics").await;
    let of_server = |line: &&str| line.starts_with("http_requests_total") && line.contains("status=\"500\"");
    assert_eq!(metrics.lines().find(of_server), None);
}
