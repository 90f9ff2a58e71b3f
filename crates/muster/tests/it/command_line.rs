//! `muster ls`, `watch`, `explain` and `drain`.

use std::{
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use discovery::{Instance, InstanceKey, Status, Ttl};
use discovery_etcd::{Etcd, EtcdOptions};
use testkit::{
    etcd::EtcdCluster,
    process::Process,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

const INSTANCES: &str = r#"{"revision":7,"age_ms":5,"service":"mail","instances":[
    {"id":"a","address":"10.0.0.5:7070","status":"draining","override":"draining","reported_status":"passing",
     "lease":"00000000000000ff","created_revision":3,"modified_revision":3}]}"#;

/// A registry that knows one instance, `a` of `mail`.
async fn registry() -> Upstream {
    Upstream::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/v1/services?include=tombstones") => {
            Reply::ok(r#"{"revision":7,"age_ms":5,"services":[{"name":"mail","instances":1}]}"#)
        }
        ("GET", "/v1/services/mail/instances?include=tombstones") => Reply::ok(INSTANCES),
        ("PUT", "/v1/services/mail/instances/a/override") => Reply::ok(r#"{"revision":8}"#),
        ("PUT", _) => {
            let unknown = r#"{"code":"no_such_instance","detail":"service/mail/b is not registered"}"#;
            Reply::status(404, &[], unknown)
        }
        ("DELETE", _) => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        _ => Reply::status(404, &[], r#"{"code":"no_such_path","detail":"there is nothing here"}"#),
    })
    .await
}

/// A registry that has lost etcd.
async fn registry_without_etcd() -> Upstream {
    Upstream::start(|_| Reply::status(503, &[], r#"{"code":"etcd_unavailable","detail":"etcd cannot commit"}"#)).await
}

async fn muster(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || Command::new(env!("CARGO_BIN_EXE_muster")).args(arguments).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn url(upstream: &Upstream) -> String {
    format!("http://{}", upstream.address())
}

#[tokio::test]
async fn ls_shows_every_instance_of_every_service_also_as_json() {
    let registry = registry().await;
    let text = printed(&muster(&["ls", "--registry", &url(&registry)]).await);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("mail     a         10.0.0.5:7070  draining"), "{text}");
    assert!(text.contains("by an operator"), "{text}");
    assert_eq!(*lines.last().unwrap(), format!("registry {} (--registry)", url(&registry)));
    let json = printed(&muster(&["ls", "mail", "--json", "--registry", &url(&registry)]).await);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["services"]["mail"]["instances"][0]["lease"], "00000000000000ff");
    assert_eq!(json["registry"], url(&registry));
}

#[tokio::test]
async fn a_key_is_shown_once_and_only_its_hash_is_sent() {
    let registry = Upstream::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/v1/config") => {
            Reply::ok(r#"{"settings":[{"key":"mail","revision":1},{"key":"key/old","revision":2},{"key":"key/odd","revision":3}]}"#)
        }
        ("GET", "/v1/config/key/old") => Reply::ok(format!(
            r#"{{"sha256":"{}","services":["mail","web"],"expires":"2020-01-01T00:00:00Z"}}"#,
            "ab".repeat(32)
        )),
        ("GET", "/v1/config/key/odd") => Reply::ok("nonsense"),
        ("PUT", "/v1/config/key/old") => Reply::status(412, &[], r#"{"code":"precondition_failed","detail":"exists"}"#),
        ("PUT", "/v1/config/key/ci") => Reply::ok(r#"{"revision":8}"#),
        ("DELETE", "/v1/config/key/old") => Reply::ok(r#"{"existed":true}"#),
        _ => Reply::status(404, &[], r#"{"code":"no_such_setting","detail":"there is no setting"}"#),
    })
    .await;
    let url = url(&registry);
    let made = printed(&muster(&["key", "--registry", &url, "new", "ci", "--service", "mail"]).await);
    let secret = made.lines().next().unwrap();
    assert!(secret.starts_with("muster_") && secret.len() == 71, "{made}");
    let put = registry.requests().into_iter().find(|request| request.method == "PUT").unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!((&sent["services"], sent["sha256"].as_str().unwrap().len()), (&serde_json::json!(["mail"]), 64));
    assert!(!sent.to_string().contains(secret.trim_start_matches("muster_")));
    assert_eq!(put.header("if-none-match"), Some("*"), "of two that make the same key at once one makes it");
    let again = muster(&["key", "--registry", &url, "new", "old", "--all"]).await;
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("a key old already"),
        "{again:?}"
    );
    let listed = printed(&muster(&["key", "--registry", &url, "ls"]).await);
    let rows: Vec<String> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(rows.contains(&"old mail, web 2020-01-01T00:00:00Z, expired".to_owned()), "{listed}");
    assert!(!listed.contains("abab"), "{listed}");
    assert!(listed.contains("odd  none: "), "one that is no key keeps no other from being listed: {listed}");
    let revoked = printed(&muster(&["key", "--registry", &url, "revoke", "old"]).await);
    assert!(revoked.starts_with("old is revoked\n"), "{revoked}");
}

#[tokio::test]
async fn a_key_whose_first_answer_was_lost_is_the_one_that_was_made() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let first = Upstream::start({
        let written = Arc::clone(&written);
        move |request| {
            if request.method == "PUT" {
                written.lock().unwrap().clone_from(&request.body);
            }
            Reply::status(503, &[], r#"{"code":"etcd_unavailable","detail":"no answer in time"}"#)
        }
    })
    .await;
    let second = Upstream::start(move |request| match request.method.as_str() {
        "PUT" => Reply::status(412, &[], r#"{"code":"precondition_failed","detail":"exists"}"#),
        _ => Reply::ok(String::from_utf8(written.lock().unwrap().clone()).unwrap()),
    })
    .await;
    let urls = format!("{},{}", url(&first), url(&second));
    let made = printed(&muster(&["key", "--registry", &urls, "new", "ci", "--all", "--expires", "90d"]).await);
    assert!(made.starts_with("muster_") && made.contains("ci is in force until 20"), "{made}");
    let long = muster(&["key", "--registry", &urls, "new", "ci", "--all", "--expires", "200years"]).await;
    assert!(!long.status.success() && String::from_utf8_lossy(&long.stderr).contains("out of range"), "{long:?}");
}

#[tokio::test]
async fn ls_asks_a_registry_that_does_not_know_tombstones_of_services_without_them() {
    let registry = Upstream::start(|request| match request.target.as_str() {
        "/v1/services" => Reply::ok(r#"{"services":[{"name":"mail"}]}"#),
        "/v1/services/mail/instances?include=tombstones" => Reply::ok(INSTANCES),
        _ => Reply::status(422, &[], r#"{"code":"invalid_field","detail":"include is unknown here"}"#),
    })
    .await;
    assert!(printed(&muster(&["ls", "--registry", &url(&registry)]).await).contains("10.0.0.5:7070"));
}

/// What `muster ls` writes to a terminal of 80 columns, which `script` makes, with `more` in its environment.
async fn on_a_terminal(registry: &Upstream, more: &'static [(&'static str, &'static str)]) -> String {
    let line = format!("stty cols 80; {} ls --registry {}", env!("CARGO_BIN_EXE_muster"), url(registry));
    let run = move || {
        let mut script = Command::new("script");
        script
            .args(["-qec", &line, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(more.iter().copied());
        script.output().unwrap()
    };
    printed(&tokio::task::spawn_blocking(run).await.unwrap())
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_people_who_have_not_said_no() {
    let registry = registry().await;
    let coloured = on_a_terminal(&registry, &[]).await;
    assert!(coloured.contains("\u{1b}[33mdraining\u{1b}[0m"), "{coloured:?}");
    assert!(!on_a_terminal(&registry, &[("NO_COLOR", "1")]).await.contains('\u{1b}'));
    assert!(on_a_terminal(&registry, &[("NO_COLOR", "")]).await.contains('\u{1b}'), "empty counts as unset");
    assert!(!printed(&muster(&["ls", "--registry", &url(&registry)]).await).contains('\u{1b}'), "a pipe");
}

#[tokio::test]
async fn drain_moves_on_to_a_registry_that_can() {
    let mut gone = registry().await;
    let lost = registry_without_etcd().await;
    let registry = registry().await;
    gone.down().await;
    let urls = [url(&gone), url(&lost), url(&registry)].join(",");
    let asked = ["drain", "mail", "a", "--author", "kim", "--reason", "disk swap", "--registry", &urls];
    let text = printed(&muster(&asked).await);
    let hint = format!("{} drain mail a --registry {urls} --undo", env!("CARGO_BIN_EXE_muster"));
    assert!(text.contains("mail a is draining") && text.contains(&hint), "{text}");
    assert!(text.contains(&format!("registry {} (--registry)", url(&registry))), "who took it: {text}");
    printed(&muster(&["drain", "mail", "a", "--undo", "--registry", &urls]).await);
    let asked: Vec<_> = registry.requests().into_iter().filter(|request| request.method != "GET").collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|request| request.target == "/v1/services/mail/instances/a/override"), "{asked:?}");
    assert_eq!((asked[0].method.as_str(), asked[1].method.as_str()), ("PUT", "DELETE"));
    assert_eq!(asked[0].body, br#"{"author":"kim","reason":"disk swap","status":"draining"}"#);
}

#[tokio::test]
async fn draining_an_instance_that_is_not_there_fails_and_says_so() {
    let registry = registry().await;
    let output = muster(&["drain", "mail", "b", "--registry", &url(&registry)]).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("service/mail/b is not registered"), "{output:?}");
}

#[tokio::test]
async fn without_any_registry_every_reason_is_said() {
    let mut gone = registry().await;
    let lost = registry_without_etcd().await;
    gone.down().await;
    let urls = [url(&gone), url(&lost)].join(",");
    for arguments in [["ls", "mail", "--registry", &urls], ["ls", "--json", "--registry", &urls]] {
        let output = muster(&arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("no registry answers") && error.contains("503 etcd cannot commit"), "{error}");
        assert!(error.contains(&gone.address().to_string()), "{error}");
    }
}

#[tokio::test]
async fn explain_tells_what_the_gateway_says_also_when_that_is_no() {
    let gateway = Upstream::start(|request| match request.target.as_str() {
        "/explain?service=mail" => Reply::ok(
            r#"{"service":"mail","pick_now":"service/mail/a","policy":{"source":"default","effective":{}},"instances":[
                {"key":"service/mail/a","address":"10.0.0.5:7070","verdict":"in_rotation","why":[],"in_flight":0}],
                "gone":[],"table":{"source":"etcd","age_ms":5}}"#,
        ),
        _ => Reply::status(
            404,
            &[],
            r#"{"code":"no_such_service","detail":"no instance of \"web\" was ever registered"}"#,
        ),
    })
    .await;
    let text = printed(&muster(&["explain", "mail", "--admin", &url(&gateway)]).await);
    assert!(text.ends_with(&format!("gateway {} (--admin)\n", url(&gateway))), "{text}");
    assert!(text.starts_with("mail: the next request would go to a\npolicy: default\n"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("a         10.0.0.5:7070  in rotation")), "{text}");
    let json = printed(&muster(&["explain", "mail", "--json", "--admin", &url(&gateway)]).await);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["instances"][0]["verdict"], "in_rotation");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for registry in [["--registry", &silent], ["--registry-token-file", "/does/not/exist"]] {
        let beside = muster(&[&["explain", "mail", "--admin", &url(&gateway)], &registry[..]].concat()).await;
        assert_eq!(printed(&beside), text, "a registry only adds to it");
    }
    let output = muster(&["explain", "web", "--admin", &url(&gateway)]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("404 no instance of \"web\""), "{error}");
}

#[tokio::test]
async fn explain_without_a_gateway_says_where_it_looked() {
    let mut gateway = registry().await;
    gateway.down().await;
    let output = muster(&["explain", "mail", "--admin", &url(&gateway)]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    let address = gateway.address().to_string();
    assert!(output.status.code() == Some(1) && error.contains(&address) && error.contains("--admin"), "{error}");
}

#[tokio::test]
async fn mistakes_in_the_options_end_with_64_and_say_what_to_write() {
    for (arguments, says) in [
        (&["ls", "--registry", "127.0.0.1:8500"][..], "write for example http://127.0.0.1:8500"),
        (&["drain", "mail"], "<INSTANCE>"),
        (&["watch", "Mail"], "use 1 to 63 of a-z"),
        (&["up", "--grace", "2"], "a unit is missing"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["lss"], "a similar subcommand exists: 'ls'"),
        (&["ls", "--registy", "http://a:1"], "a similar argument exists: '--registry'"),
        (&["explain", "mail", "--admn", "http://a:1"], "a similar argument exists: '--admin'"),
        (&["status", "--etcd-endpoint", "http://a:1"], "a similar argument exists: '--etcd-endpoints'"),
    ] {
        let output = muster(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_variable_that_is_set_but_empty_counts_as_unset() {
    let registry = registry().await;
    let address = url(&registry);
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["ls", "--registry", &address]).env("REGISTRY_URLS", "").env("MUSTER_DATA", "");
        command.output().unwrap()
    };
    assert!(printed(&tokio::task::spawn_blocking(run).await.unwrap()).contains("mail"));
    let help = muster(&["--help"]).await;
    assert!(printed(&help).contains("drain"));
}

#[tokio::test]
async fn watch_prints_each_change_as_it_happens() {
    let cluster = EtcdCluster::start(1).await;
    let options = EtcdOptions { etcd_timeout: SOON / 4, etcd_deadline: SOON, ..EtcdOptions::at(cluster.endpoints()) };
    let etcd = Etcd::new(&options).unwrap();
    let key: InstanceKey = "service/mail/a".parse().unwrap();
    let mut instance = Instance::at("10.0.0.5:7070".parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.current_dir(dir.path()).args(["watch", "mail", "--etcd-endpoints", &cluster.endpoint(0)]);
    let watch = Process::start(&mut command, &dir.path().join("output")).unwrap();
    let shows = async |line: &str| {
        wait_until(&format!("{line:?}"), SOON, async || watch.output().contains(line)).await;
    };
    shows("= 0 at revision").await;
    let lease = etcd.register(&key, &instance, Ttl::MAX).await.unwrap().lease;
    shows("+ mail a  passing  10.0.0.5:7070").await;
    instance.status = Status::Critical;
    etcd.update(&key, &instance, lease).await.unwrap();
    shows("~ mail a  passing -> critical").await;
    etcd.put_override(&key, Status::Draining).await.unwrap();
    shows("! mail a  draining by an operator").await;
    etcd.deregister(&key, Some(lease)).await.unwrap();
    shows("- mail a  its heartbeats stopped; it was draining by an operator").await;
    let other: InstanceKey = "service/web/b".parse().unwrap();
    etcd.register(&other, &instance, Ttl::MAX).await.unwrap();
    etcd.delete_override(&key).await.unwrap();
    shows("! mail a  is back in rotation").await;
    assert!(!watch.output().contains("web"), "only mail was asked for: {}", watch.output());
    assert!(watch.output().contains(&format!("of etcd {} (--etcd-endpoints)", cluster.endpoint(0))));
}
