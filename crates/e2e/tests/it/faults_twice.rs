//! Slow is not dead: nothing is carried out twice, and nothing is ejected, because it takes long.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use e2e::{
    fault_suite::{FaultSuite, TEST_INSTANCES},
    gunicorn::SlowService,
    suite::{PARTS, Suite},
};
use nix::sys::signal::Signal;
use reqwest::{Client, Method, StatusCode};
use serde_json::json;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::POST, Method::PATCH];
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// What became of requests that were sent with the numbers from `first` on.
struct Sent {
    first: u64,
    statuses: Vec<(u64, Method, Result<StatusCode, String>)>,
}

impl Sent {
    /// Sends `count` requests, `per_second` of them a second, of each method in turn; each works for `work`.
    async fn to(url: &str, first: u64, count: u64, per_second: u32, work: Duration) -> Self {
        let client = Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0).build().unwrap();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
        let mut under_way = JoinSet::new();
        for number in first..first + count {
            ticks.tick().await;
            let method = METHODS[number as usize % METHODS.len()].clone();
            let request = client
                .request(method.clone(), url)
                .header("x-number", number)
                .header("x-sleep", work.as_secs_f64().to_string())
                .header("x-sleep-ms", work.as_millis() as u64)
                .header("idempotency-key", format!("key-{number}"));
            under_way.spawn(async move {
                let answer = request.send().await;
                (number, method, answer.map(|answer| answer.status()).map_err(|error| format!("{error:?}")))
            });
        }
        Self { first, statuses: under_way.join_all().await }
    }

    /// What was not answered with 200, or was not carried out exactly once.
    fn mistakes(&self, carried_out: &BTreeMap<u64, usize>) -> Vec<String> {
        let times = |number: &u64| carried_out.get(number).copied().unwrap_or_default();
        let is_wrong = |(number, _, status): &&(u64, Method, _)| *status != Ok(StatusCode::OK) || times(number) != 1;
        let wrong = self.statuses.iter().filter(is_wrong);
        wrong
            .map(|(number, method, status)| {
                format!("{method} {}: {status:?}, carried out {} times", number - self.first, times(number))
            })
            .collect()
    }
}

#[tokio::test]
async fn a_slow_service_carries_out_every_request_once_at_every_rate() {
    let fault_suite = FaultSuite::start().await;
    let url = format!("http://{}/test-instance/r", fault_suite.address("balance"));
    let mut first = 1 << 40;
    for work in [200, 800, 3000].map(Duration::from_millis) {
        for per_second in [1, 5, 20] {
            let seconds = fault_suite.scale.pick(2, 10);
            let count = u64::from(per_second * seconds).max(METHODS.len() as u64);
            let sent = Sent::to(&url, first, count, per_second, work).await;
            first += count;
            let row = fault_suite.row_of("", Vec::new());
            let mistakes = sent.mistakes(row.received());
            let out = fault_suite.output("balance").lines().filter(|line| line.contains("is ejected")).count();
            println!("{work:?} at {per_second}/s: {count} requests, {} mistakes, {out} ejections", mistakes.len());
            assert!(
                mistakes.is_empty() && out == 0,
                "{work:?} at {per_second}/s: {mistakes:#?}\n{}",
                fault_suite.output("balance")
            );
        }
    }
    for name in TEST_INSTANCES {
        assert_eq!(fault_suite.decision(name).await.as_deref(), Some("in_rotation"));
    }
}

#[tokio::test]
async fn a_single_threaded_server_that_works_for_a_second_and_a_half_is_asked_once() {
    for value in ["", "?health=/healthz"] {
        let service = SlowService::start(1, 1, value).await;
        // It is known for quick answers.
        let quick = Sent::to(&service.url(), 1000, 40, 20, Duration::ZERO).await;
        assert_eq!(quick.mistakes(&service.carried_out()), Vec::<String>::new());
        // Three for each instance, one after the other; and one for each, twice.
        for (first, count, per_second) in [(2000, 7, 50), (3000, 4, 1)] {
            let sent = Sent::to(&service.url(), first, count, per_second, Duration::from_millis(1500)).await;
            assert_eq!(sent.mistakes(&service.carried_out()), Vec::<String>::new(), "{:?}", service.ejections());
        }
        assert_eq!(service.ejections(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_put_with_a_precondition_at_a_slow_service_is_carried_out_once_and_answered() {
    let service = SlowService::start(1, 1, "").await;
    for version in 1..=3_u64 {
        let put = Client::new().put(service.url()).header("x-number", version).header("x-sleep", "0.8");
        let answer = put.header("if-match", version.to_string()).send().await.unwrap();
        assert_eq!((answer.status(), service.version()), (StatusCode::OK, (version + 1).to_string()));
    }
    assert!(service.carried_out().values().all(|times| *times == 1), "{:?}", service.carried_out());
    assert_eq!(service.ejections(), Vec::<String>::new());
}

#[tokio::test]
async fn a_frozen_instance_that_wakes_up_deletes_no_user_that_was_made_anew() {
    let mut suite = Suite::prepare().await;
    // In turn: each core has turns of its own.
    suite.set("balance", "BALANCE_WORKERS", "1");
    PARTS.iter().for_each(|name| suite.run(name));
    suite.wait_until_ready().await;
    let users = format!("{}/userlist/v1/users", suite.gateway());
    let user = format!("{users}/dong");
    let make = json!({"method": "put", "name": "dong", "email": "d@example.com"});
    suite.post("userlist", make.clone()).await;
    suite.signal("userlist-1", Signal::SIGSTOP);
    let frozen = Instant::now();
    // One of two goes to the frozen instance; the other one is answered, with 204 or, if the user is gone, 404.
    let mut under_way = JoinSet::new();
    for _ in 0..2 {
        let delete = suite.client.delete(&user).timeout(PATIENCE).send();
        under_way.spawn(async { delete.await.map(|answer| answer.status()) });
    }
    let answered = under_way.join_next().await.unwrap().unwrap().unwrap();
    assert!([StatusCode::NO_CONTENT, StatusCode::OK].contains(&answered), "{answered}");
    // Long enough for the frozen one to be ejected, and for its lease to end.
    let elsewhere = tokio::time::timeout(Duration::from_secs(8), under_way.join_next()).await;
    assert!(elsewhere.is_err(), "the DELETE at the frozen instance was answered by another one: {elsewhere:?}");
    println!("the DELETE still waits {:.1} s after the freeze", frozen.elapsed().as_secs_f64());
    suite.signal("userlist-1", Signal::SIGCONT);
    let answered = under_way.join_next().await.unwrap().unwrap().unwrap();
    assert!(answered.is_success() || answered == StatusCode::NOT_FOUND, "{answered}");
    // Only now is it known that the user is gone. Made anew, he stays.
    suite.post("userlist", make).await;
    wait_until("both instances", SOON, async || suite.instances("userlist").await == Some(2)).await;
    for _ in 0..6 {
        assert_eq!(suite.request(Method::GET, "/userlist/v1/users/dong", None).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_mail_with_a_key_is_sent_once_by_a_slow_smtp_server() {
    let mut suite = Suite::prepare().await;
    let sink = SmtpSink::start().await;
    sink.always(Step::EndOfData, Behaviour::Hold);
    for name in ["mail-1", "mail-2"] {
        suite.set(name, "MAIL_SMTP_URL", &sink.url());
        suite.set(name, "MAIL_OPEN", "true");
    }
    for name in ["registry-1", "registry-2", "mail-1", "mail-2", "balance"] {
        suite.run(name);
    }
    suite.wait_for_instances("mail", 2).await;
    wait_until("mail behind the gateway", SOON, async || {
        suite.request(Method::GET, "/mail/healthz", None).await.status == StatusCode::OK
    })
    .await;
    for round in 1..=3 {
        let mail =
            suite.client.post(format!("{}/mail", suite.gateway())).header("idempotency-key", format!("k{round}"));
        let sending = tokio::spawn(mail.body(json!({"address": "a@b.c", "message": "hello"}).to_string()).send());
        wait_until("the message", SOON, async || sink.held() == 1).await;
        // The server needs a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        sink.release();
        assert_eq!(sending.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(sink.messages().len(), round, "each mail once");
    }
}
