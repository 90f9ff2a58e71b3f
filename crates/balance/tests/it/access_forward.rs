//! A service that says who may pass, asked by name.

use std::time::{Duration, Instant};

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Gateway, RealServer};

/// A small service of others: a cookie lets in, a browser without one is sent to log in.
const SERVICE: &str = r#"
def app(environ, start_response):
    cookie = environ.get("HTTP_COOKIE", "")
    asked = [(name, environ.get("HTTP_" + name.replace("-", "_").upper(), "")) for name in ("X-Forwarded-Method", "X-Forwarded-Uri")]
    body = environ["wsgi.input"].read()
    if environ["REQUEST_METHOD"] != "GET" or environ["PATH_INFO"] != "/verify" or body:
        start_response("500 Asked Otherwise", [])
        return [b""]
    if "session=ann" in cookie:
        told = "; ".join(value for _, value in asked)
        start_response("200 OK", [("X-Auth-User", "ann"), ("X-Auth-Asked", told), ("X-Secret", "s"), ("Content-Length", "2")])
        return [b"ok"]
    if "text/html" in environ.get("HTTP_ACCEPT", ""):
        start_response("302 Found", [("Location", "https://login.example/?rd=" + asked[1][1]), ("Set-Cookie", "csrf=1"), ("Content-Length", "0")])
        return [b""]
    if "session=bob" in cookie:
        start_response("403 Forbidden", [("Content-Length", "3")])
        return [b"bob"]
    start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "3")])
    return [b"who"]
"#;

const POLICY: &str = r#"{"auth":{"forward":{"service":"auth","path":"/verify","pass":["x-auth-user","x-auth-asked"]},"public_paths":["/open"]}}"#;

async fn start(mail: &Upstream, auth: &[String]) -> Gateway {
    let mut gateway = Gateway::before(&[mail.address()], &["--stall-timeout=0s"]);
    for (n, address) in auth.iter().enumerate() {
        gateway.register(&format!("service/auth/{n}"), address);
    }
    gateway.set_policy("mail", POLICY);
    gateway
}

async fn get(gateway: &Gateway, fields: &str) -> Answer {
    gateway.ask(&format!("GET /mail/x?y=z HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await
}

#[tokio::test]
async fn what_the_service_says_is_done_and_bodies_are_unharmed() {
    let mail = Upstream::named("mail").await;
    let auth = RealServer::gunicorn(SERVICE).await;
    let gateway = start(&mail, &[auth.address.to_string()]).await;
    let ann =
        get(&gateway, "Cookie: session=ann\r\nX-Auth-User: root\r\nX-Forwarded-Uri: /open\r\nIf-None-Match: x\r\n")
            .await;
    assert_eq!((ann.status, ann.text().as_str()), (200, "mail"));
    let told = mail.requests().pop().unwrap();
    assert_eq!((told.header("x-auth-user"), told.header("x-auth-asked")), (Some("ann"), Some("GET; /mail/x?y=z")));
    assert_eq!((told.header("x-secret"), told.header("x-auth-method")), (None, Some("forward")));
    assert_eq!((told.header("cookie"), told.header("if-none-match")), (Some("session=ann"), Some("x")));
    let mut client = gateway.connect().await;
    for length in [5, 200_000] {
        let post = format!(
            "POST /mail/x HTTP/1.1\r\nHost: a\r\nCookie: session=ann\r\nContent-Length: {length}\r\n\r\n{}",
            "b".repeat(length)
        );
        assert_eq!(client.ask(&post).await.status, 200);
        assert_eq!(mail.requests().pop().unwrap().body.len(), length);
    }
    let browser = get(&gateway, "Accept: text/html\r\n").await;
    assert_eq!((browser.status, browser.header("location")), (302, Some("https://login.example/?rd=/mail/x?y=z")));
    assert_eq!(browser.header("set-cookie"), Some("csrf=1"));
    let unknown = get(&gateway, "").await;
    assert_eq!(
        (unknown.status, unknown.header("www-authenticate"), unknown.text().as_str()),
        (401, Some("Bearer"), "who")
    );
    assert_eq!(get(&gateway, "Cookie: session=bob\r\n").await.status, 403);
    assert_eq!(gateway.get("/mail/open").await.status, 200);
    assert_eq!(mail.requests().len(), 4);
}

#[tokio::test]
async fn a_body_that_is_not_read_is_never_taken_for_the_next_request() {
    let mail = Upstream::named("mail").await;
    let auth = Upstream::start(|_| Reply::status(401, &[], "who")).await;
    let gateway = start(&mail, &[auth.address().to_string()]).await;
    let smuggled = "GET /mail/open HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = gateway.connect().await;
    let post = |fields: &str| {
        let length = smuggled.len();
        format!("POST /mail/x HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n")
    };
    for _ in 0..3 {
        let refused = client.ask(&(post("") + smuggled)).await;
        assert_eq!((refused.status, refused.header("connection")), (401, None), "one that has come is read");
        let refused = client.ask("GET /mail/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((refused.status, refused.text().as_str()), (401, "who"));
    }
    client.send(post("Expect: 100-continue\r\n")).await;
    let refused = client.answer().await;
    assert_eq!((refused.status, refused.header("connection")), (401, Some("close")), "one that has not is not");
    assert!(client.rest().await.is_empty() && mail.requests().is_empty());
}

#[tokio::test]
async fn what_the_service_answers_is_framed_for_the_client_that_gets_it() {
    let mail = Upstream::named("mail").await;
    let auth = Upstream::start(|request| match request.header("x-want") {
        Some("chunks") => Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n0\r\n\r\n",
        ),
        Some("long") => Reply::status(401, &[], "w".repeat(300_000)),
        Some("broken") => Reply::ThenClose(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nwho".to_vec()),
        _ => Reply::status(401, &[], "w".repeat(200_000)),
    })
    .await;
    let gateway = start(&mail, &[auth.address().to_string()]).await;
    let mut client = gateway.connect().await;
    let request = |method: &str, want: &str| format!("{method} /mail/x HTTP/1.1\r\nHost: a\r\nX-Want: {want}\r\n\r\n");
    let chunks = client.ask(&request("GET", "chunks")).await;
    assert_eq!((chunks.status, chunks.header("content-length"), chunks.text().as_str()), (401, Some("3"), "who"));
    assert_eq!(chunks.header("www-authenticate"), Some("Bearer"));
    assert_eq!(client.ask(&request("GET", "much")).await.body.len(), 200_000);
    let unavailable = (503, "auth_unavailable".to_owned());
    assert_eq!(client.ask(&request("GET", "long")).await.code(), unavailable, "more than is kept");
    assert_eq!(client.ask(&request("GET", "broken")).await.code(), unavailable, "half an answer is none");
    client.send(request("HEAD", "chunks")).await;
    let head = client.head_only().await;
    assert_eq!((head.status, head.header("content-length")), (401, Some("3")));
    assert_eq!(client.ask(&request("GET", "chunks")).await.text(), "who", "a HEAD gets no body");
    assert!(mail.requests().is_empty());
}

#[tokio::test]
async fn what_only_the_gateway_says_of_a_client_reaches_the_service_from_no_client_either() {
    let mail = Upstream::named("mail").await;
    let auth = Upstream::start(|request| {
        let is_said =
            ["x-auth-user", "x-auth-subject", "x-auth-method"].iter().any(|name| request.header(name).is_some());
        if is_said { Reply::status(403, &[], "believed") } else { Reply::ok("") }
    })
    .await;
    let gateway = start(&mail, &[auth.address().to_string()]).await;
    let fields = "X-Auth-User: root\r\nx-auth-subject: root\r\nX-AUTH-METHOD: key\r\n";
    assert_eq!(get(&gateway, fields).await.status, 200);
    assert_eq!(mail.requests().pop().unwrap().header("x-auth-user"), None);
}

#[tokio::test]
async fn only_the_first_field_that_is_passed_on_says_who_the_client_is() {
    let mail = Upstream::named("mail").await;
    let auth = Upstream::start(|_| Reply::status(200, &[("X-Auth-Asked", "root")], "")).await;
    let gateway = start(&mail, &[auth.address().to_string()]).await;
    assert_eq!(get(&gateway, "").await.status, 200);
    let told = mail.requests().pop().unwrap();
    assert_eq!((told.header("x-auth-asked"), told.header("x-auth-subject")), (Some("root"), None));
}

#[tokio::test]
async fn without_a_judgement_nothing_passes() {
    let mail = Upstream::named("mail").await;
    let mut gateway = start(&mail, &[]).await;
    let unavailable = (503, "auth_unavailable".to_owned());
    let away = get(&gateway, "").await;
    assert_eq!(away.code(), unavailable, "there is no such service");
    assert!(away.header("retry-after").is_some());
    gateway.register("service/auth/0", "127.0.0.1:1");
    assert_eq!(get(&gateway, "").await.code(), unavailable, "it cannot be reached");
    let odd = Upstream::start(|request| match request.header("x-want") {
        Some("500") => Reply::status(500, &[], "broken"),
        Some("404") => Reply::status(404, &[], "nothing"),
        Some("304") => Reply::raw("HTTP/1.1 304 Not Modified\r\n\r\n"),
        Some("101") => Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        _ => Reply::raw("nonsense\r\n\r\n"),
    })
    .await;
    gateway.register("service/auth/0", &odd.address().to_string());
    for want in ["500", "404", "304", "101", "nonsense"] {
        assert_eq!(get(&gateway, &format!("X-Want: {want}\r\n")).await.code(), unavailable, "{want}");
    }
    assert!(mail.requests().is_empty());
}

#[tokio::test]
async fn its_own_deadline_holds_and_a_dead_instance_is_passed_over() {
    let mail = Upstream::named("mail").await;
    let auth = Upstream::start(|_| Reply::ok("")).await;
    let mut gateway = start(&mail, &["127.0.0.1:1".to_owned(), auth.address().to_string()]).await;
    for _ in 0..10 {
        assert_eq!(get(&gateway, "").await.status, 200, "another instance of it is asked");
    }
    gateway.remove("service/auth/0");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.register("service/auth/1", &silent.local_addr().unwrap().to_string());
    gateway.set_policy("auth", r#"{"timeouts":{"response":"300ms"}}"#);
    let began = Instant::now();
    assert_eq!(get(&gateway, "").await.code(), (503, "auth_unavailable".to_owned()));
    // Neither does half a head let anybody in, nor one that is too large.
    let half = Upstream::start(|request| match request.header("x-want") {
        None => Reply::raw("HTTP/1.1 200 OK\r\nX-Auth-User: ro"),
        Some(_) => Reply::raw(format!("HTTP/1.1 200 OK\r\nX-Auth-User: {}\r\n\r\n", "a".repeat(1 << 20))),
    })
    .await;
    gateway.register("service/auth/1", &half.address().to_string());
    for fields in ["", "X-Want: much\r\n"] {
        assert_eq!(get(&gateway, fields).await.code(), (503, "auth_unavailable".to_owned()), "{fields}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_question_ends_when_its_client_leaves_and_not_when_it_has_only_ended_its_direction() {
    let mail = Upstream::named("mail").await;
    let silent = Upstream::start(|_| Reply::Silence).await;
    let mut gateway = start(&mail, &[silent.address().to_string()]).await;
    for (n, rest) in ["Content-Length: 10\r\n\r\nhalf", "\r\n"].into_iter().enumerate() {
        let mut client = gateway.connect().await;
        client.send(format!("PUT /mail/x HTTP/1.1\r\nHost: a\r\n{rest}")).await;
        wait_until("the question", SOON, || async { silent.requests().len() == n + 1 }).await;
        client.reset();
        wait_until("its end", SOON, || async { silent.connections_open() == 0 }).await;
    }
    gateway.remove("service/auth/0");
    let auth = Upstream::start(|_| Reply::after(Duration::from_millis(50), "")).await;
    gateway.register("service/auth/1", &auth.address().to_string());
    let mut client = gateway.connect().await;
    client.send("PUT /mail/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole").await;
    client.half_close().await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(mail.requests().pop().unwrap().body, b"whole");
}

#[tokio::test]
async fn a_service_that_is_asked_about_itself_is_asked_once() {
    let mail = Upstream::start(|request| match request.header("x-forwarded-uri") {
        Some(_) => Reply::ok(""),
        None => Reply::ok("mail"),
    })
    .await;
    let mut gateway = start(&mail, &[]).await;
    gateway.set_policy("mail", r#"{"auth":{"forward":{"service":"mail"}}}"#);
    assert_eq!(get(&gateway, "").await.text(), "mail");
    assert_eq!(mail.requests().len(), 2);
}

#[tokio::test]
async fn a_websocket_passes_after_the_judgement() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    let mail = Upstream::start(move |_| Reply::raw(switching)).await;
    let auth = Upstream::start(|request| match (request.header("upgrade"), request.header("cookie")) {
        (None, Some("session=ann")) => Reply::ok(""),
        (None, _) => Reply::status(403, &[], "no"),
        (Some(_), _) => Reply::status(500, &[], "asked for a tunnel"),
    })
    .await;
    let gateway = start(&mail, &[auth.address().to_string()]).await;
    let upgrade = "GET /mail/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(gateway.ask(&format!("{upgrade}\r\n")).await.status, 403);
    let mut client = gateway.connect().await;
    client.send(format!("{upgrade}Cookie: session=ann\r\n\r\n")).await;
    assert_eq!(client.head_only().await.status, 101);
    assert_eq!(client.read(5).await, b"hello");
}
