//! What pages of other sites make a browser send, over a real connection: our own address of it is what decides.

use axum::{Router, routing::get};
use prometheus_client::registry::Registry;
use service_kit::{
    app,
    browser::{BrowserOptions, Guard},
    health::Readiness,
    serve::{ServeOptions, serve},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A service with a page, and a path that everyone may change something at; where it listens.
async fn start(allowed: &str) -> String {
    let allowed_hosts = allowed.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect();
    let guard = Guard::new(&BrowserOptions { allowed_hosts }, None).open_to_pages(&["/leave/{token}"]);
    let methods = || get(async || "read").post(async || "changed");
    let api = Router::new().route("/", methods()).route("/leave/{token}", methods());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = app::assemble(api, guard, Readiness::new(), Registry::default());
    tokio::spawn(serve(listener, router, ServeOptions::default(), CancellationToken::new()));
    address
}

async fn status(method: &str, url: &str, fields: &[(&str, &str)]) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_rebound_name_reads_nothing_not_even_a_metric() {
    let address = start("").await;
    for path in ["/", "/healthz", "/readyz", "/metrics", "/nowhere"] {
        let url = format!("http://{address}{path}");
        assert_eq!(status("GET", &url, &[("host", "evil.example")]).await, 403, "{path}");
        assert_ne!(status("GET", &url, &[]).await, 403, "{path}");
    }
}

#[tokio::test]
async fn an_allowed_name_may_be_asked_for_and_its_pages_may_change_something() {
    let url = format!("http://{}/", start("shop.example").await);
    let page = ("origin", "https://shop.example");
    assert_eq!(status("POST", &url, &[("host", "shop.example"), page]).await, 200);
    assert_eq!(status("POST", &url, &[page]).await, 200);
    assert_eq!(status("POST", &url, &[("origin", "https://other.example")]).await, 403);
    assert_eq!(status("GET", &url, &[("origin", "https://other.example")]).await, 200, "it reads, if CORS lets it");
}

#[tokio::test]
async fn a_path_that_proves_who_asks_is_open_to_all_pages() {
    let address = start("").await;
    let page = [("origin", "https://webmail.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(status("POST", &format!("http://{address}/leave/1b2c"), &page).await, 200);
    assert_eq!(status("POST", &format!("http://{address}/"), &page).await, 403);
}
