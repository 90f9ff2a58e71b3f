//! Services behind a prefix, in a browser: redirects, cookies and links of programs that do not know where they are.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use testkit::{
    process::Process,
    python::python,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_for},
};

use crate::support::{Answer, Gateway};

/// A program of others behind the gateway, as the service `web`.
struct Web {
    gateway: Gateway,
    process: Process,
    folder: tempfile::TempDir,
}

impl Web {
    /// Starts `command` in `folder`; `parameters` are what its registration says besides its address, as `?a=b`.
    async fn start(folder: tempfile::TempDir, mut command: Command, parameters: &str, options: &[&str]) -> Self {
        let process = Process::start(command.current_dir(folder.path()), &folder.path().join("output")).unwrap();
        let address: SocketAddr = wait_for("the program to listen", SOON, || {
            let port = port(&process.output());
            async move { port.map(|port| ([127, 0, 0, 1], port).into()) }
        })
        .await;
        let mut gateway = Gateway::with(options);
        gateway.register("service/web/0", &format!("http://{address}{parameters}"));
        Self { gateway, process, folder }
    }

    /// Asks as a browser that follows redirects does; where it has arrived, and what it read there.
    fn browse(&self, path: &str) -> (String, String) {
        let gateway = self.gateway.address();
        let output = Command::new("curl")
            .args(["-sSL", "--max-time", "20", "-H", "Accept: text/html,*/*;q=0.8", "-b", ""])
            .args(["-w", "\n%{http_code} %{url_effective}", &format!("http://{gateway}{path}")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{path}: {text} {}", String::from_utf8_lossy(&output.stderr));
        let (body, arrived) = text.rsplit_once('\n').unwrap();
        (arrived.replace(&format!("http://{gateway}"), ""), body.to_owned())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // So that one with processes of its own ends them.
        if self.process.signal(nix::sys::signal::Signal::SIGTERM) {
            self.process.wait(SOON);
        }
    }
}

/// The port in the line that says where the program listens.
fn port(output: &str) -> Option<u16> {
    let marks = ["http://127.0.0.1:", "127.0.0.1 port "];
    let rest = marks.iter().find_map(|mark| output.split_once(mark))?.1;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..digits].parse().ok()
}

fn script(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// A page of a browser: what it sends when a person follows a link.
async fn visit(gateway: &Gateway, target: &str, lines: &str) -> Answer {
    gateway.ask(&format!("GET {target} HTTP/1.1\r\nHost: shop.example:8080\r\nAccept: text/html\r\n{lines}\r\n")).await
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.head.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn the_files_of_python_are_browsed_from_the_services_own_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/page.html"), "a page").unwrap();
    let mut command = python("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]);
    let web = Web::start(folder, command, "", &[]).await;
    let (arrived, listing) = web.browse("/web");
    assert_eq!(arrived, "200 /web/");
    assert!(listing.contains("href=\"sub/\""), "a relative link, which leads to /web/sub/: {listing}");
    assert_eq!(web.browse("/web/sub").0, "200 /web/sub/", "the server redirects to /sub/");
    assert_eq!(web.browse("/web/sub/page.html"), ("200 /web/sub/page.html".to_owned(), "a page".to_owned()));
    assert!(web.folder.path().exists());
}

const NODE: &str = r#"
const server = require('http').createServer((request, response) => {
  const { port } = server.address();
  const path = request.url.split('?')[0];
  if (path === '/login') {
    response.setHeader('Set-Cookie', ['all=1; Path=/', 'app=2; Path=/app; HttpOnly', '__Host-x=3; Path=/; Secure']);
    response.setHeader('Location', `http://127.0.0.1:${port}/app/home`);
    response.setHeader('Content-Location', '/login.html');
    response.setHeader('Refresh', '5; url=/app/home');
    response.statusCode = 302;
    response.end();
  } else if (path === '/host') {
    response.writeHead(302, { Location: `http://${request.headers.host}/app/home` }).end();
  } else if (path === '/away') {
    response.writeHead(302, { Location: 'https://other.example/app' }).end();
  } else if (path === '/upload') {
    request.resume().on('end', () => response.writeHead(201, { Location: `http://${request.headers.host}/made` }).end());
  } else {
    response.end(JSON.stringify({ path, cookies: request.headers.cookie || '' }));
  }
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
"#;

#[tokio::test]
async fn cookies_and_redirects_of_a_program_that_knows_no_prefix_stay_in_the_service() {
    let (folder, path) = script("app.js", NODE);
    let mut command = Command::new("node");
    command.arg(path);
    let web = Web::start(folder, command, "", &[]).await;
    let login = visit(&web.gateway, "/web/login", "").await;
    assert_eq!(login.header("location"), Some("/web/app/home"), "not the instance's address");
    assert_eq!(login.header("content-location"), Some("/web/login.html"));
    assert_eq!(login.header("refresh"), Some("5; url=/web/app/home"));
    let expected = ["all=1; Path=/web", "app=2; Path=/web/app; HttpOnly", "__Host-x=3; Path=/; Secure"];
    assert_eq!(values(&login, "set-cookie"), expected);
    let (arrived, page) = web.browse("/web/login");
    assert_eq!(arrived, "200 /web/app/home");
    assert!(page.contains("app=2; all=1"), "both cookies came back: {page}");
    let host = visit(&web.gateway, "/web/host", "").await;
    assert_eq!(host.header("location"), Some("http://shop.example:8080/web/app/home"));
    assert_eq!(visit(&web.gateway, "/web/away", "").await.header("location"), Some("https://other.example/app"));
    // Too large to be kept: the head that was sent is gone when the answer comes.
    let body = "x".repeat(300_000);
    let upload =
        format!("POST /web/upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let made = web.gateway.ask(&upload).await;
    assert_eq!((made.status, made.header("location")), (201, Some("http://shop.example/web/made")));
}

const WSGI: &str = r#"
def app(environ, start_response):
    prefix = environ.get('HTTP_X_FORWARDED_PREFIX', '')
    headers = [('Location', prefix + '/home'), ('Set-Cookie', 'a=b; Path=' + prefix + '/x'), ('Content-Length', '0')]
    start_response('302 Found', headers)
    return [b'']
"#;

/// gunicorn with the program above, whose registration says that it honours the prefix, or does not.
async fn gunicorn(parameters: &str, options: &[&str]) -> Web {
    let (folder, _) = script("web.py", WSGI);
    let mut command = python("gunicorn");
    command.args(["--bind", "127.0.0.1:0", "--workers", "1", "web:app"]);
    Web::start(folder, command, parameters, options).await
}

#[tokio::test]
async fn a_service_that_honours_the_prefix_is_left_alone() {
    let web = gunicorn("?meta.forwarded-prefix=honoured", &["--trust-forwarded-from=127.0.0.0/8"]).await;
    let answer = visit(&web.gateway, "/web/", "").await;
    assert_eq!((answer.header("location"), answer.header("set-cookie")), (Some("/web/home"), Some("a=b; Path=/web/x")));
    let answer = visit(&web.gateway, "/web/", "X-Forwarded-Prefix: /api\r\n").await;
    assert_eq!(answer.header("location"), Some("/api/web/home"));
    let mut undeclared = gunicorn("", &[]).await;
    let answer = visit(&undeclared.gateway, "/web/", "").await;
    assert_eq!(answer.header("location"), Some("/web/home"), "what begins with the prefix does not get it twice");
    undeclared.gateway.set_policy("web", r#"{"prefix":{"restore":"always"}}"#);
    let answer = visit(&undeclared.gateway, "/web/", "").await;
    assert_eq!(answer.header("location"), Some("/web/web/home"), "unless the policy says so");
    undeclared.gateway.set_policy("web", r#"{"prefix":{"restore":"never"}}"#);
    assert_eq!(visit(&undeclared.gateway, "/web/", "").await.header("location"), Some("/web/home"));
}

#[tokio::test]
async fn a_prefix_that_a_trusted_proxy_has_cut_off_is_kept_in_front() {
    let fields = [("Location", "/made"), ("Set-Cookie", "a=b; Path=/"), ("Set-Cookie", "c=d; Path=/users")];
    let upstream = Upstream::start(move |_| Reply::status(201, &fields, "")).await;
    let mut gateway = Gateway::with(&["--trust-forwarded-from=127.0.0.0/8"]);
    gateway.register("service/users/0", &upstream.address().to_string());
    gateway.set_policy("users", r#"{"load_balancing":{"sticky":{"cookie":"at"}}}"#);
    let answer = visit(&gateway, "/users/x", "X-Forwarded-Prefix: /api\r\n").await;
    assert_eq!(upstream.requests()[0].header("x-forwarded-prefix"), Some("/api/users"));
    assert_eq!(answer.header("location"), Some("/api/users/made"));
    let cookies = values(&answer, "set-cookie");
    assert_eq!(cookies[..2], ["a=b; Path=/api/users", "c=d; Path=/api/users"]);
    assert!(cookies[2].contains("; Path=/api/users;"), "the gateway's own: {cookies:?}");
    let page = visit(&gateway, "/users?a=b", "X-Forwarded-Prefix: /api\r\n").await;
    assert_eq!((page.status, page.header("location")), (307, Some("/api/users/?a=b")));
    // From a client that is not trusted it is a claim like any other.
    let mut wary = Gateway::start();
    wary.register("service/users/0", &upstream.address().to_string());
    let answer = visit(&wary, "/users/x", "X-Forwarded-Prefix: /evil\r\n").await;
    assert_eq!(answer.header("location"), Some("/users/made"));
}

#[tokio::test]
async fn only_a_browser_that_asks_for_a_page_is_sent_to_the_slash() {
    let upstream = Upstream::start(|request| Reply::status(200, &[], &request.target)).await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    let page = visit(&gateway, "/mail?a=/b", "").await;
    assert_eq!((page.status, page.header("location"), page.header("vary")), (307, Some("/mail/?a=/b"), Some("Accept")));
    assert!(upstream.requests().is_empty());
    let html = "Accept: application/xhtml+xml, Text/HTML;q=0.9\r\n";
    for (method, accept, status) in [
        ("HEAD", html, 307),
        ("POST", html, 200),
        ("DELETE", html, 200),
        ("GET", "Accept: */*\r\n", 200),
        ("GET", "Accept: application/json\r\n", 200),
        ("GET", "", 200),
    ] {
        let answer = gateway.ask(&format!("{method} /mail HTTP/1.1\r\nHost: a\r\n{accept}\r\n")).await;
        assert_eq!(answer.status, status, "{method} {accept}");
    }
    assert_eq!(visit(&gateway, "/mail/", "").await.status, 200);
    gateway.set_policy("mail", r#"{"prefix":{"slash":false}}"#);
    assert_eq!(visit(&gateway, "/mail", "").await.status, 200);
}

#[tokio::test]
async fn a_tunnel_that_opens_sets_cookies_for_the_service_too() {
    let fields = [("Connection", "Upgrade"), ("Upgrade", "echo"), ("Set-Cookie", "a=b; Path=/")];
    let upstream = Upstream::start(move |_| Reply::status(101, &fields, "")).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for target in ["/mail/ws", "/mail"] {
        let mut client = gateway.connect().await;
        let fields = "Host: a\r\nAccept: text/html\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
        client.send(format!("GET {target} HTTP/1.1\r\n{fields}\r\n")).await;
        let head = client.head_only().await;
        assert_eq!((head.status, head.header("set-cookie")), (101, Some("a=b; Path=/mail")), "{target}");
    }
}

#[tokio::test]
async fn what_an_instance_would_take_for_an_instruction_ends_at_the_gateway() {
    const ENVIRON: &str = r#"
import json
def app(environ, start_response):
    body = json.dumps(sorted(name for name in environ if name.startswith('HTTP_'))).encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
"#;
    let (folder, _) = script("web.py", ENVIRON);
    let mut command = python("gunicorn");
    command.args(["--bind", "127.0.0.1:0", "--workers", "1", "--header-map", "dangerous"]);
    let web = Web::start(
        folder,
        {
            command.arg("web:app");
            command
        },
        "",
        &[],
    )
    .await;
    let lines = "Proxy: http://evil.example\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX_Remote_User: root\r\n\
                 X-Script-Name: /evil\r\nTrue-Client-IP: 1.2.3.4\r\nX-Remote-Team: blue\r\n";
    let names = visit(&web.gateway, "/web/", lines).await.text();
    for gone in ["PROXY", "X_ORIGINAL_URL", "X_REWRITE_URL", "X_REMOTE_USER", "X_SCRIPT_NAME", "TRUE_CLIENT_IP"] {
        assert!(!names.contains(&format!("HTTP_{gone}\"")), "{gone} in {names}");
    }
    assert!(names.contains("HTTP_X_REMOTE_TEAM"), "{names}");
}
