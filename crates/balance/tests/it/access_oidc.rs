//! Logging in with an identity provider: a service of others that does the code flow, and one of others to log in at.

use testkit::{
    python::python,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Client, Gateway, RealServer};

const POLICY: &str =
    r#"{"auth":{"forward":{"service":"login","path":"/verify","pass":["x-auth-user","x-auth-asked"]}}}"#;

/// Everything that there is of it.
struct Everything {
    mail: Upstream,
    login: RealServer,
    provider: RealServer,
    gateway: Gateway,
}

/// A browser as far as it matters: it keeps cookies.
#[derive(Default)]
struct Browser {
    cookies: Vec<(String, String)>,
}

async fn start() -> Everything {
    let mail = Upstream::start(|request| match request.header("upgrade") {
        Some(_) => {
            Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        }
        None => Reply::ok("mail"),
    })
    .await;
    let mut gateway = Gateway::before(&[mail.address()], &["--stall-timeout=0s"]);
    let provider = RealServer::oidc_provider().await;
    let mut command = python("python");
    command.args(["-m", "gunicorn", "--bind=127.0.0.1:0", "--workers=1", "--threads=4", "instance:app"]);
    command.env("PROVIDER", format!("http://{}", provider.address));
    command.env("OWN", format!("http://{}/login", gateway.address()));
    let login = RealServer::start(command, "instance.py", include_str!("access_oidc.py")).await;
    gateway.register("service/login/0", &login.address.to_string());
    gateway.set_policy("mail", POLICY);
    Everything { mail, login, provider, gateway }
}

// === impl Browser ===

impl Browser {
    /// Asks for `path` of the gateway.
    async fn get(&mut self, gateway: &Gateway, path: &str) -> Answer {
        self.ask(gateway, &format!("GET {path}"), "").await
    }

    async fn ask(&mut self, gateway: &Gateway, start: &str, rest: &str) -> Answer {
        let answer = gateway.ask(&self.request(start, rest)).await;
        let set = answer.head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: "));
        for cookie in set {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }

    fn request(&self, start: &str, rest: &str) -> String {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let end = if rest.contains("\r\n\r\n") { "" } else { "\r\n" };
        format!("{start} HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n{rest}{end}", cookies.join("; "))
    }

    fn has(&self, name: &str) -> bool {
        self.cookies.iter().any(|(known, _)| known == name)
    }

    /// Says who it is at the provider, and goes where that sends it; the answer there.
    async fn log_in(&mut self, all: &Everything, redirect: &Answer) -> Answer {
        let location = redirect.header("location").unwrap();
        let path = location.strip_prefix(&format!("http://{}", all.provider.address)).expect("it is the provider's");
        let post = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 7\r\n\r\nsub=ann",
            all.provider.address
        );
        let allowed = Client::connect(all.provider.address).await.ask(&post).await;
        assert_eq!(allowed.status, 302, "{}", allowed.text());
        let back = allowed.header("location").unwrap().to_owned();
        let back = back.strip_prefix(&format!("http://{}", all.gateway.address())).expect("it leads to the gateway");
        self.get(&all.gateway, back).await
    }
}

#[tokio::test]
async fn who_logs_in_at_the_provider_reaches_the_service_until_the_logout() {
    let all = start().await;
    let mut browser = Browser::default();
    let redirect = browser.get(&all.gateway, "/mail/inbox?page=2").await;
    assert_eq!(redirect.status, 302);
    let location = redirect.header("location").unwrap();
    assert!(location.contains("response_type=code") && location.contains("code_challenge="), "{location}");
    assert!(browser.has("state") && browser.has("seen"), "both cookies: {}", redirect.head);
    assert!(all.mail.requests().is_empty(), "nothing passes before");
    let back = browser.log_in(&all, &redirect).await;
    let inbox = format!("http://{}/mail/inbox?page=2", all.gateway.address());
    assert_eq!((back.status, back.header("location")), (302, Some(&*inbox)), "{}", back.text());
    let inbox = browser.get(&all.gateway, "/mail/inbox?page=2").await;
    assert_eq!((inbox.status, inbox.text().as_str()), (200, "mail"));
    let told = all.mail.requests().pop().unwrap();
    assert_eq!((told.header("x-auth-user"), told.header("x-auth-subject")), (Some("ann"), Some("ann")));
    assert_eq!(
        (told.header("x-auth-method"), told.header("x-auth-asked")),
        (Some("forward"), Some("/mail/inbox?page=2"))
    );
    // A tunnel and a large body, as they are.
    let mut client = all.gateway.connect().await;
    client.send(browser.request("GET /mail/chat", "Connection: Upgrade\r\nUpgrade: websocket\r\n")).await;
    assert_eq!(client.head_only().await.status, 101);
    assert_eq!(client.read(5).await, b"hello");
    let body = "b".repeat(5 << 20);
    let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(browser.ask(&all.gateway, "PUT /mail/file", &rest).await.status, 200);
    assert_eq!(all.mail.requests().pop().unwrap().body.len(), body.len());
    assert_eq!(browser.get(&all.gateway, "/login/logout").await.status, 200);
    assert_eq!(browser.get(&all.gateway, "/mail/inbox").await.status, 302, "again to the provider");
}

#[tokio::test]
async fn an_outage_of_the_provider_ends_no_session_and_one_of_the_service_that_is_asked_lets_no_request_pass() {
    let all = start().await;
    let mut browser = Browser::default();
    let redirect = browser.get(&all.gateway, "/mail/").await;
    assert_eq!(browser.log_in(&all, &redirect).await.status, 302);
    let Everything { mail, login, provider, gateway } = all;
    drop(provider);
    assert_eq!(browser.get(&gateway, "/mail/").await.status, 200, "the service knows the session");
    let mut newcomer = Browser::default();
    let redirect = newcomer.get(&gateway, "/mail/").await;
    let state =
        redirect.header("location").unwrap().split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    // What the service says of it reaches the user as it is.
    let failed = newcomer.get(&gateway, &format!("/login/callback?code=x&state={state}")).await;
    assert_eq!(failed.status, 502, "{}", failed.text());
    drop(login);
    // Its worker answers for a moment more.
    let request = browser.request("GET /mail/", "");
    wait_until("the end of the service", SOON, async || gateway.ask(&request).await.status == 503).await;
    let before = mail.requests().len();
    assert_eq!(gateway.ask(&request).await.code(), (503, "auth_unavailable".to_owned()));
    assert_eq!(mail.requests().len(), before);
}
