//! Services behind a prefix, from a browser's point of view: where a link or a redirect leads is followed, as a client does.

use std::process::Command;

use e2e::{binaries, suite::Suite};
use nix::sys::signal::Signal;
use reqwest::{StatusCode, header};
use serde_json::json;
use testkit::{
    ports::free_ports,
    process::Process,
    python::python,
    wait::{SOON, wait_until},
};

#[tokio::test]
async fn the_readmes_own_example_is_browsed_under_its_name() {
    let suite = Suite::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/page.html"), "a page").unwrap();
    let port = free_ports(1)[0].to_string();
    let mut command = Command::new(binaries::find("heartbeat"));
    let url = format!("http://127.0.0.1:{port}/");
    command.current_dir(folder.path()).env("REGISTRY_URLS", format!("http://{}", suite.address("registry-1")));
    command
        .args(["--service", "web", "--port", &port, "--check-http", &url, "--"])
        .arg(python("python3").get_program());
    command.args(["-m", "http.server", &port, "--bind", "127.0.0.1"]);
    let mut sidecar = Process::start(&mut command, &folder.path().join("output")).unwrap();
    suite.wait_for_instances("web", 1).await;
    let browse = async |path: &str| {
        let request = suite.client.get(format!("{}{path}", suite.gateway())).header(header::ACCEPT, "text/html");
        let response = request.send().await.unwrap();
        (response.status(), response.url().clone(), response.text().await.unwrap())
    };
    wait_until("the gateway to know it", SOON, async || browse("/web").await.0 == StatusCode::OK).await;
    let (_, listing, text) = browse("/web").await;
    assert_eq!(listing.path(), "/web/");
    let link = text.split("href=\"").filter_map(|rest| rest.split('"').next()).find(|link| *link == "sub/");
    assert_eq!(listing.join(link.expect("a link to the folder")).unwrap().path(), "/web/sub/", "{text}");
    let (status, folder_page, _) = browse("/web/sub").await;
    assert_eq!((status, folder_page.path()), (StatusCode::OK, "/web/sub/"), "http.server redirects to /sub/");
    assert_eq!(browse("/web/sub/page.html").await.2, "a page");
    // It ends its program, which would outlive it otherwise.
    assert!(sidecar.signal(Signal::SIGTERM));
    assert!(sidecar.wait(SOON).is_some(), "the sidecar ends");
}

#[tokio::test]
async fn where_mail_says_that_a_message_is_leads_there_through_the_gateway() {
    let suite = Suite::start().await;
    let message = json!({"to": ["a@b.c"], "subject": "hello", "text": "hello"});
    let request = suite.client.post(format!("{}/mail/v1/messages", suite.gateway())).body(message.to_string());
    let accepted = request.send().await.unwrap();
    assert_eq!(accepted.status(), StatusCode::ACCEPTED, "{:?}", accepted.text().await);
    let location = accepted.headers()[header::LOCATION].to_str().unwrap();
    assert!(location.starts_with("/mail/v1/messages/"), "{location}");
    let location = accepted.url().join(location).unwrap();
    let found = suite.client.get(location).send().await.unwrap();
    assert_eq!(found.status(), StatusCode::OK);
}
