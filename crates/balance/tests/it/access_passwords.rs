//! Names and passwords: a slow hash once, for who shows it, and never on the threads that serve.

use std::time::{Duration, Instant};

use testkit::{
    etcd::EtcdCluster,
    upstream::Upstream,
    wait::{SOON, wait_until},
};

use crate::support::{Gateway, Program};

/// `ann:correct horse`, by `htpasswd -nbB -C 12`.
const ANN: &str = "$2y$12$GpeRAktS5/guZaqtw51zQ.BBeK79/9IYL.5Il3RLtCaoyx7tUVI5.";

fn basic(name_and_password: &str) -> String {
    use std::fmt::Write as _;
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in name_and_password.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let sign = char::from(SIGNS[(bits >> (18 - 6 * at)) as usize & 63]);
            write!(encoded, "{}", if at <= chunk.len() { sign } else { '=' }).unwrap();
        }
    }
    format!("GET /mail HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {encoded}\r\n\r\n")
}

async fn gateway() -> (Upstream, Gateway) {
    let mail = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[mail.address()], &["--workers=1"]);
    gateway.set_policy(
        "mail",
        &format!(r#"{{"auth":{{"basic":{{"users":{{"ann":"{ANN}"}}}},"public_paths":["/open"]}}}}"#),
    );
    (mail, gateway)
}

#[tokio::test]
async fn a_right_password_passes_and_costs_its_slow_hash_once() {
    let (mail, gateway) = gateway().await;
    let first = gateway.ask(&basic("ann:correct horse")).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let told = mail.requests().pop().unwrap();
    assert_eq!((told.header("x-auth-subject"), told.header("authorization")), (Some("ann"), None));
    let (mut client, began) = (gateway.connect().await, Instant::now());
    for _ in 0..200 {
        assert_eq!(client.ask(&basic("ann:correct horse")).await.status, 200);
    }
    // Two hundred hashes of cost 12 are the better part of a minute.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_policy_that_changes_elsewhere_costs_no_hash_again_and_one_whose_hash_changes_does() {
    let (_mail, mut gateway) = gateway().await;
    assert_eq!(gateway.ask(&basic("ann:correct horse")).await.status, 200);
    let policy =
        |hash: &str| format!(r#"{{"timeouts":{{"connect":"2s"}},"auth":{{"basic":{{"users":{{"ann":"{hash}"}}}}}}}}"#);
    gateway.set_policy("mail", &policy(ANN));
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = gateway.connect().await;
        client.send(basic("ann:correct horse")).await;
        clients.push(client);
    }
    for mut client in clients {
        assert_eq!(client.answer().await.status, 200, "one client may have sixteen hashes under way");
    }
    gateway.set_policy("mail", &policy(&ANN.replace("UVI5.", "UVI5/")));
    assert_eq!(gateway.ask(&basic("ann:correct horse")).await.status, 401);
}

#[tokio::test]
async fn a_wrong_password_an_unknown_name_and_nonsense_are_refused_alike() {
    let (mail, gateway) = gateway().await;
    let long = format!("ann:{}", "x".repeat(73));
    for wrong in ["ann:wrong", "bob:correct horse", "ann", "ann:", ":", "Ann:correct horse", &long] {
        let answer = gateway.ask(&basic(wrong)).await;
        assert_eq!(answer.code(), (401, "credentials_invalid".to_owned()), "{wrong}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"mail\", charset=\"UTF-8\""));
    }
    let missing = gateway.get("/mail").await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Basic realm=\"mail\"")));
    assert!(mail.requests().is_empty());
}

#[tokio::test]
async fn a_wrong_password_does_not_keep_out_a_client_whose_network_is_enough() {
    let (mail, mut gateway) = gateway().await;
    let basic_users = format!(r#""basic":{{"users":{{"ann":"{ANN}"}}}}"#);
    gateway.set_policy("mail", &format!(r#"{{"auth":{{{basic_users},"networks":{{"allow":["127.0.0.0/8"]}}}}}}"#));
    // While it is worked out, and when it is known.
    for _ in 0..2 {
        assert_eq!(gateway.ask(&basic("ann:wrong")).await.status, 200);
        assert_eq!(mail.requests().pop().unwrap().header("x-auth-method"), Some("network"));
    }
    assert_eq!(gateway.ask(&basic("ann:correct horse")).await.status, 200);
    assert_eq!(mail.requests().pop().unwrap().header("x-auth-method"), Some("basic"));
    gateway.set_policy(
        "mail",
        &format!(r#"{{"auth":{{"require":"all",{basic_users},"networks":{{"allow":["127.0.0.0/8"]}}}}}}"#),
    );
    assert_eq!(gateway.ask(&basic("ann:wrong")).await.status, 401);
}

#[tokio::test]
async fn no_page_and_no_log_line_shows_a_hash() {
    let etcd = EtcdCluster::start(1).await;
    etcd.etcdctl(&["put", "service/mail/0", "127.0.0.1:1"]);
    etcd.etcdctl(&["put", "config/mail", &format!(r#"{{"auth":{{"basic":{{"users":{{"ann":"{ANN}"}}}}}}}}"#)]);
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &[]).await;
    wait_until("the policy", SOON, async || program.admin("/explain?service=mail").await["policy"]["source"] == "etcd")
        .await;
    let shown = program.admin("/explain?service=mail").await;
    assert_eq!(shown["policy"]["effective"]["auth"]["basic"]["users"]["ann"], "(a hash)");
    assert!(!shown.to_string().contains("$2y$") && !program.output().contains("$2y$"));
}

#[tokio::test]
async fn wrong_passwords_slow_only_themselves() {
    let (_mail, gateway) = gateway().await;
    let mut guesses = Vec::new();
    for n in 0..40 {
        let mut client = gateway.connect().await;
        client.send(basic(&format!("ann:guess {n}"))).await;
        guesses.push(client);
    }
    // The one core that serves has nothing of that work.
    let (mut client, began) = (gateway.connect().await, Instant::now());
    for _ in 0..50 {
        assert_eq!(client.ask("GET /mail/open HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut too_many = 0;
    for mut guess in guesses {
        let answer = guess.answer().await;
        match answer.status {
            429 => too_many += 1,
            // On a machine that is busy with other things a guess may wait for longer than a request may.
            status => assert!(matches!(status, 401 | 503), "{}", answer.text()),
        }
    }
    assert!(too_many >= 20, "one client has sixteen under way at most: {too_many}");
}
