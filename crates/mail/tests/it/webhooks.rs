//! The webhook: what becomes of messages is told, signed, at least once, and mail does not wait for it.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    database::Database,
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_for, wait_until},
};

use crate::{process::Program, service::Mail, streams::paused, userlist_sync::bounce};

/// 24 bytes each.
const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_SECRET: &str = "AAAQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Answers with no status: it keeps the request.
const HANG: u16 = 0;

/// What a receiver got.
#[derive(Clone)]
struct EventOutcome {
    id: String,
    body: Value,
    secrets: Vec<&'static str>,
}

struct Receiver {
    url: String,
    secret: PathBuf,
    told: Mutex<Vec<EventOutcome>>,
    status: AtomicU16,
    _dir: TempDir,
}

/// Which of the secrets signed it.
fn secrets(headers: &HeaderMap, body: &str) -> Vec<&'static str> {
    let text = |name: &str| headers[name].to_str().unwrap();
    let age = service_kit::time::UnixMillis::now().0 / 1000 - text("webhook-timestamp").parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    let content = format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp"));
    let signs = |secret: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(secret).unwrap());
        let wanted = format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(&key, content.as_bytes())));
        text("webhook-signature").split(' ').any(|signature| signature == wanted)
    };
    [SECRET, NEXT_SECRET].into_iter().filter(|secret| signs(secret)).collect()
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: String) -> StatusCode {
    let told = EventOutcome {
        id: headers["webhook-id"].to_str().unwrap().to_owned(),
        body: serde_json::from_str(&body).unwrap(),
        secrets: secrets(&headers, &body),
    };
    assert_eq!(headers["content-type"], "application/json");
    receiver.told.lock().unwrap().push(told);
    match receiver.status.load(Ordering::SeqCst) {
        HANG => std::future::pending().await,
        status => StatusCode::from_u16(status).unwrap(),
    }
}

impl Receiver {
    async fn start() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, format!("whsec_{SECRET}\n")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?from=mail", listener.local_addr().unwrap());
        let told = Mutex::default();
        let status = AtomicU16::new(204);
        let receiver = Arc::new(Self { url, secret, told, status, _dir: dir });
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&receiver));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let url = self.url.as_str();
        let secret = self.secret.to_str().unwrap();
        let own = ["--webhook-url", url, "--webhook-secret-file", secret, "--webhook-retry-first", "50ms"];
        [&own, more].concat()
    }

    fn told(&self) -> Vec<EventOutcome> {
        self.told.lock().unwrap().clone()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.told().into_iter().map(|told| told.id).collect()
    }

    async fn first(&self, kind: &str) -> EventOutcome {
        let found = || self.told().into_iter().find(|told| told.body["type"] == kind);
        wait_for(kind, SOON, || async { found() }).await
    }
}

async fn waiting(mail: &Mail, count: i64) {
    wait_until("the events", SOON, || async { mail.outbox.events_waiting().await.unwrap() == count }).await;
}

async fn everything_is_told(outbox: &str) {
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    let mail = Mail::working(&sink, &receiver.args(&["--outbox-url", outbox]));
    let labels = json!({ "to": "a@b.c", "text": "hello", "tag": "welcome", "metadata": { "order": "17" } });
    let id = mail.submit(&labels).await.body["id"].clone();
    let told = receiver.first("message.delivered").await;
    assert_eq!(told.secrets, [SECRET]);
    let data = &told.body["data"];
    assert_eq!((&data["message"], &data["recipient"], &data["kind"]), (&id, &json!("a@b.c"), &json!("to")), "{data}");
    assert_eq!((&data["tag"], &data["metadata"]), (&json!("welcome"), &json!({ "order": "17" })), "{data}");
    assert_eq!((&data["attempts"], &data["outcome"]), (&json!(1), &json!("sent")), "{data}");
    assert!(told.body["timestamp"].as_str().unwrap().ends_with('Z'), "{}", told.body);

    sink.once(Step::EndOfData, Behaviour::reply("550 5.7.1 no"));
    mail.accepted("d@e.f").await;
    let data = receiver.first("message.failed").await.body["data"].clone();
    assert_eq!((&data["recipient"], &data["outcome"]), (&json!("d@e.f"), &json!("smtp_refused")), "{data}");
    assert_eq!(data["reply"], "550 5.7.1 no", "{data}");

    bounce(&mail, "g@h.i", "hard").await;
    bounce(&mail, "g@h.i", "hard").await;
    let data = receiver.first("recipient.bounced").await.body["data"].clone();
    assert_eq!((&data["recipient"], &data["bounce"]), (&json!("g@h.i"), &json!("hard")), "{data}");
    bounce(&mail, "j@k.l", "complaint").await;
    assert_eq!(receiver.first("recipient.complained").await.body["data"]["recipient"], "j@k.l");
    let left = json!({ "reason": "unsubscribe" });
    mail.call("PUT", "/v1/suppressions/m@n.o", &left).await;
    assert_eq!(receiver.first("recipient.unsubscribed").await.body["data"]["recipient"], "m@n.o");
    mail.call("PUT", "/v1/suppressions/p@q.r", &json!({})).await;
    waiting(&mail, 0).await;
    assert_eq!(
        (receiver.told().len(), receiver.ids().len()),
        (5, 5),
        "each once, and nothing of what an operator does"
    );
    bounce(&mail, "s@t.u", "soft").await;
    waiting(&mail, 0).await;
    let soft = receiver.told().pop().unwrap().body["data"].clone();
    assert_eq!((&soft["recipient"], &soft["bounce"]), (&json!("s@t.u"), &json!("soft")), "{soft}");
}

#[tokio::test]
async fn what_becomes_of_messages_and_addresses_is_told_signed_and_once() {
    let dir = tempfile::tempdir().unwrap();
    everything_is_told(&format!("sqlite:{}", dir.path().join("outbox.db").display())).await;
}

#[tokio::test]
async fn what_becomes_of_messages_and_addresses_is_told_from_an_outbox_in_mysql() {
    everything_is_told(&Database::start().await.create("mail")).await;
}

#[tokio::test]
async fn a_receiver_that_is_away_or_hangs_holds_up_no_mail_and_gets_everything_when_it_is_back() {
    for status in [503, HANG] {
        let sink = SmtpSink::start().await;
        let receiver = Receiver::start().await;
        receiver.answers(status);
        let mail = Mail::working(&sink, &receiver.args(&[]));
        for index in 0..20 {
            mail.accepted(&format!("a{index}@b.c")).await;
        }
        wait_until("the mail", SOON, || async { sink.messages().len() == 20 }).await;
        wait_until("an attempt", SOON, || async { !receiver.told().is_empty() }).await;
        // The server has a message a moment before it is written down that it has.
        waiting(&mail, 20).await;
        receiver.answers(204);
        wait_until("the rest", SOON * 3, || async { mail.outbox.events_waiting().await.unwrap() == 0 }).await;
        let recipients: BTreeSet<String> =
            receiver.told().iter().map(|told| told.body["data"]["recipient"].to_string()).collect();
        assert_eq!((receiver.ids().len(), recipients.len()), (20, 20), "an event keeps its id");
    }
}

#[tokio::test]
async fn who_is_withheld_when_a_message_leaves_is_told_as_a_failure() {
    let mut sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    sink.down().await;
    let mail = Mail::working(&sink, &receiver.args(&["--webhook-events", "failed,delivered"]));
    let id = mail.accepted("a@b.c").await;
    paused(&mail).await;
    bounce(&mail, "a@b.c", "hard").await;
    sink.up();
    mail.until(&id, "suppressed").await;
    let data = receiver.first("message.failed").await.body["data"].clone();
    assert_eq!((&data["outcome"], &data["reply"]), (&json!("suppressed"), &json!("bounce")), "{data}");
    assert!(receiver.told().iter().all(|told| told.body["type"] != "recipient.bounced"), "nobody wants to know");
}

#[tokio::test]
async fn a_message_sent_at_once_that_came_onto_the_list_or_was_left_behind_is_told() {
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    let mail = Mail::working(&sink, &receiver.args(&[]));
    let message = json!({ "address": "a@b.c", "message": "hello" });
    sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted"));
    mail.post_as("k", "/", &message).await.assert(503, "smtp_deferred");
    mail.call("PUT", "/v1/suppressions/a@b.c", &json!({})).await;
    mail.post_as("k", "/", &message).await.assert(422, "suppressed");
    let outcomes = || receiver.told().iter().map(|told| told.body["data"]["outcome"].clone()).collect::<Vec<_>>();
    wait_until("the withheld one", SOON, || async { outcomes().contains(&json!("suppressed")) }).await;
    sink.once(Step::Data, Behaviour::Hang);
    let asking = tokio::spawn({
        let mail = mail.clone();
        async move { mail.post(&json!({ "address": "d@e.f", "message": "hello" })).await }
    });
    wait_until("the conversation", SOON, || async { sink.commands().iter().any(|line| line == "DATA") }).await;
    let later = service_kit::time::UnixMillis::now() + Duration::from_secs(7200);
    assert_eq!(mail.outbox.expire_immediate(later).await.unwrap(), 1);
    wait_until("the one left behind", SOON, || async { outcomes().contains(&json!("outcome_unknown")) }).await;
    asking.abort();
}

#[tokio::test]
async fn instances_that_share_an_outbox_tell_each_event_once() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    let url = database.create("mail");
    let args = receiver.args(&["--outbox-url", &url]);
    let one = Mail::working(&sink, &args);
    let other = Mail::working(&sink, &args);
    for index in 0..60 {
        let mail = if index % 2 == 0 { &one } else { &other };
        mail.accepted(&format!("a{index}@b.c")).await;
    }
    wait_until("the events", SOON, || async { receiver.ids().len() == 60 }).await;
    waiting(&one, 0).await;
    assert_eq!(receiver.told().len(), 60);
}

#[tokio::test]
async fn what_a_killed_instance_was_telling_is_told_by_another_with_the_same_id() {
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = format!("sqlite:{}", dir.path().join("outbox.db").display());
    let smtp = sink.url();
    let args = receiver.args(&["--smtp-url", &smtp, "--outbox-url", &outbox]);
    receiver.answers(HANG);
    let mut dying = Program::start(&args).await;
    let message = reqwest::Client::new().post(format!("{}/v1/messages", dying.url));
    message.json(&json!({ "to": "a@b.c", "text": "hello" })).send().await.unwrap();
    wait_until("the first attempt", SOON, || async { receiver.told().len() == 1 }).await;
    dying.process.kill();
    receiver.answers(204);
    let _other = Program::start(&args).await;
    wait_until("the other instance", Duration::from_secs(50), || async { receiver.told().len() == 2 }).await;
    assert_eq!(receiver.ids().len(), 1);
}

async fn metric(mail: &Mail, line: &str) -> Option<u64> {
    let metrics = mail.get("/metrics").await.body;
    let found = metrics.as_str().unwrap().lines().find_map(|found| found.strip_prefix(line).map(str::to_owned));
    found.and_then(|count| count.trim().parse().ok())
}

#[tokio::test]
async fn an_event_that_is_never_taken_is_given_up_and_counted() {
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    receiver.answers(400);
    let mail = Mail::working(&sink, &receiver.args(&["--webhook-retry-for", "1s"]));
    mail.accepted("a@b.c").await;
    wait_until("the attempts", SOON, || async { receiver.told().len() >= 2 }).await;
    waiting(&mail, 0).await;
    let given_up = "mail_webhook_events_total{outcome=\"given_up\"}";
    wait_until(given_up, SOON, || async { metric(&mail, given_up).await == Some(1) }).await;
}

#[tokio::test]
async fn a_receiver_that_is_away_for_long_does_not_fill_the_disk() {
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    receiver.answers(503);
    let mail = Mail::working(&sink, &receiver.args(&["--webhook-waiting-max", "5"]));
    for index in 0..20 {
        mail.accepted(&format!("a{index}@b.c")).await;
    }
    wait_until("the bound", SOON, || async {
        metric(&mail, "mail_webhook_events_total{outcome=\"dropped\"}").await == Some(15)
    })
    .await;
    assert_eq!((mail.outbox.events_waiting().await.unwrap(), sink.messages().len()), (5, 20));
}

#[tokio::test]
async fn instances_that_share_an_outbox_drop_no_more_events_than_one() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    let url = database.create("mail");
    let args = receiver.args(&["--outbox-url", &url]);
    let one = Mail::over(&sink, &args);
    let other = Mail::over(&sink, &args);
    for index in 0..1200 {
        one.outbox.note_soft_bounce(&format!("a{index}@b.c"), "").await.unwrap();
    }
    let (first, second) = tokio::join!(one.outbox.drop_events(100), other.outbox.drop_events(100));
    // A deadlock between the two ends one of them, which tries again a moment later.
    let rest = one.outbox.drop_events(100).await.unwrap();
    assert_eq!(
        (first.unwrap_or(0) + second.unwrap_or(0) + rest, one.outbox.events_waiting().await.unwrap()),
        (1100, 100)
    );
    assert_eq!(one.outbox.drop_events(100).await.unwrap(), 0);
}

#[tokio::test]
async fn while_secrets_are_exchanged_both_sign_and_a_useless_file_changes_nothing() {
    let sink = SmtpSink::start().await;
    let receiver = Receiver::start().await;
    let mail = Mail::working(&sink, &receiver.args(&[]));
    let signed = async |secrets: &str, to: &str| -> Vec<&'static str> {
        std::fs::write(&receiver.secret, secrets).unwrap();
        mail.accepted(to).await;
        let told = || receiver.told().into_iter().find(|told| told.body["data"]["recipient"] == to);
        wait_for(to, SOON, || async { told() }).await.secrets
    };
    assert_eq!(signed(&format!("whsec_{SECRET}\n"), "a@b.c").await, [SECRET]);
    assert_eq!(signed(&format!("whsec_{NEXT_SECRET}\nwhsec_{SECRET}\n"), "b@b.c").await, [SECRET, NEXT_SECRET]);
    assert_eq!(signed("nonsense", "c@b.c").await, [SECRET, NEXT_SECRET]);
    assert_eq!(signed(&format!("whsec_{NEXT_SECRET}"), "d@b.c").await, [NEXT_SECRET]);
    let times: HashMap<String, usize> = receiver.told().into_iter().fold(HashMap::new(), |mut times, told| {
        *times.entry(told.id).or_default() += 1;
        times
    });
    assert!(times.values().all(|count| *count == 1), "{times:?}");
}
