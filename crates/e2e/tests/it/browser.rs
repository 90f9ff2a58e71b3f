//! Services from a browser's point of view: links and redirects behind a prefix lead where they should, and pages of
//! other sites are kept out.

use std::process::Command;

use e2e::{binaries, suite::Suite};
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
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

/// Asks as a browser would, with these fields; status and code of the answer.
async fn ask(suite: &Suite, method: Method, url: &str, body: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let mut request = suite.client.request(method, url).body(body.to_owned());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.json::<Value>().await.unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_at_any_service() {
    let suite = Suite::start().await;
    let user = r#"{"method":"put","name":"dong","email":"d@example.com"}"#;
    let mail = r#"{"address":"a@b.c","message":"hello"}"#;
    let heartbeat = r#"{"name":"web","host":"127.0.0.1","port":9}"#;
    let url = |part: &str| format!("http://{}", suite.address(part));
    let gateway = suite.gateway();
    for (origin, url, body) in [
        (url("registry-1"), url("registry-1"), heartbeat),
        (url("mail-1"), url("mail-1"), mail),
        (url("userlist-1"), url("userlist-1"), user),
        (gateway.clone(), format!("{gateway}/mail"), mail),
        (gateway.clone(), format!("{gateway}/userlist"), user),
    ] {
        let post = async |fields: &[(&str, &str)]| ask(&suite, Method::POST, &url, body, fields).await;
        for page in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "http://localhost:3000")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:3000")],
        ] {
            assert_eq!(post(page).await, (403, "cross_site".to_owned()), "{url} {page:?}");
        }
        for own in
            [&[][..], &[("origin", origin.as_str())], &[("sec-fetch-site", "same-origin"), ("origin", origin.as_str())]]
        {
            assert_eq!(post(own).await.0, 200, "{url} {own:?}");
        }
        // A name that leads here has the page's own origin.
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(post(&rebound).await, (403, "host_not_allowed".to_owned()), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_is_made_to_lead_here_reads_nothing() {
    let suite = Suite::start().await;
    let url = |part: &str, path: &str| format!("http://{}{path}", suite.address(part));
    for url in [
        url("registry-1", "/v1/services"),
        url("mail-1", "/v1/messages"),
        url("userlist-1", "/v1/users"),
        format!("http://{}/v1/table", suite.admin()),
        url("balance", "/userlist/v1/users"),
        url("balance", "/mail/v1/messages"),
    ] {
        let get = async |host: &str| ask(&suite, Method::GET, &url, "", &[("host", host)]).await;
        assert_eq!(get("evil.example").await, (403, "host_not_allowed".to_owned()), "{url}");
        for ours in ["localhost", "localhost:8080", "127.0.0.1", "[::1]:1"] {
            assert_eq!(get(ours).await.0, 200, "{url} as {ours}");
        }
    }
}
