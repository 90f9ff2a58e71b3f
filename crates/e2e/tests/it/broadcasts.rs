//! A broadcast from mail to the users of userlist, through the gateway, and what comes back.

use std::{collections::HashMap, fmt::Write as _};

use e2e::suite::Suite;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::wait::{SOON, wait_for, wait_until};

const USERS: usize = 3000;
/// What each mail instance may have had in flight when it was killed.
const IN_FLIGHT: usize = 10;

/// Who is written to: active, and tagged.
fn is_meant(index: usize) -> bool {
    index.is_multiple_of(2) && !matches!(index, 0 | 10 | 20)
}

async fn import(suite: &Suite) {
    let mut csv = "name,email,status,tags\n".to_owned();
    for index in 0..USERS {
        let status = match index {
            0 => "unsubscribed",
            10 => "bounced",
            _ => "active",
        };
        let tag = if index.is_multiple_of(2) { "beta" } else { "" };
        writeln!(csv, "user{index},u{index}@example.com,{status},{tag}").unwrap();
    }
    let url = format!("{}/userlist/v1/users/import?format=csv", suite.gateway());
    let report: Value = suite.client.post(url).body(csv).send().await.unwrap().json().await.unwrap();
    assert_eq!((&report["created"], &report["is_complete"]), (&json!(USERS), &json!(true)), "{report}");
}

/// How many mails each address got, and the last one's text.
fn received(suite: &Suite) -> HashMap<String, (usize, String)> {
    let mut received: HashMap<String, (usize, String)> = HashMap::new();
    for mail in suite.mails() {
        let line = mail.lines().find_map(|line| line.strip_prefix("To: ")).unwrap().to_owned();
        let entry = received.entry(line).or_default();
        *entry = (entry.0 + 1, mail);
    }
    received
}

async fn status(suite: &Suite, name: &str) -> Value {
    suite.request(Method::GET, &format!("/userlist/v1/users/{name}"), None).await.body["status"].clone()
}

/// Address and link of `List-Unsubscribe`, which may be on a folded line.
fn link(mail: &str) -> String {
    let unfolded = mail.replace("\r\n ", " ");
    let header = unfolded.lines().find_map(|line| line.strip_prefix("List-Unsubscribe: ")).unwrap();
    header.trim().trim_matches(['<', '>']).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_each_user_although_mail_is_killed_and_userlist_learns_who_left() {
    let mut suite = Suite::start().await;
    import(&suite).await;
    let template = json!({
        "subject": "News for {{ user.name }}", "text": "Dear {{ user.name }}: {{ news }} {{ unsubscribe_url }}",
        "sample": { "news": "n", "unsubscribe_url": "u", "user": { "name": "x" } },
    });
    let put = suite.request(Method::PUT, "/mail/v1/templates/news", Some(template)).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    let bounce = json!({ "address": "u20@example.com", "type": "hard", "detail": "550 5.1.1" });
    let bounced = suite.request(Method::POST, "/mail/v1/bounces", Some(bounce)).await;
    assert_eq!(bounced.status, StatusCode::NO_CONTENT, "{bounced:?}");

    let request = json!({ "template": "news", "filter": { "tag": "beta" }, "data": { "news": "all is well" } });
    let begun = suite.request(Method::POST, "/mail/v1/broadcasts", Some(request)).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
    let path = format!("/mail/v1/broadcasts/{}", begun.body["id"].as_str().unwrap());
    let under_way = wait_for("some of the mails", SOON, || async {
        let progress = suite.request(Method::GET, &path, None).await.body;
        (progress["deliveries"]["delivered"].as_u64() >= Some(100)).then_some(progress)
    })
    .await;
    suite.kill("mail-1");
    suite.kill("mail-2");
    let before = suite.mails().len();
    assert!(before < USERS / 2 - 3, "the kill must come before the end, at {under_way}");
    suite.run("mail-1");
    suite.run("mail-2");

    let meant: Vec<usize> = (0..USERS).filter(|index| is_meant(*index)).collect();
    // What a killed instance had claimed waits for 20 s.
    let done = wait_for("all of it", SOON * 4, || async {
        let progress = suite.request(Method::GET, &path, None).await.body;
        (progress["state"] == "done" && progress["deliveries"]["delivered"] == meant.len()).then_some(progress)
    })
    .await;
    let received = received(&suite);
    let got = |index: usize| received.get(&format!("u{index}@example.com")).map_or(0, |(count, _)| *count);
    assert!(meant.iter().all(|index| got(*index) >= 1), "each user got it: {done}");
    assert_eq!(received.len(), meant.len(), "no other user did: {done}");
    let twice = received.values().map(|(count, _)| count - 1).sum::<usize>();
    assert!(twice <= 2 * IN_FLIGHT, "{twice} came twice");
    println!("{before} of {} before the kill, {twice} came twice", meant.len());
    wait_until("userlist to know of the bounce", SOON, async || status(&suite, "user20").await == "bounced").await;

    // One reader leaves while userlist is down.
    let (_, mail) = &received["u2@example.com"];
    suite.kill("userlist-1");
    suite.kill("userlist-2");
    let leaving = suite.client.post(link(mail)).body("List-Unsubscribe=One-Click").send().await.unwrap();
    assert_eq!(leaving.status(), StatusCode::OK, "RFC 8058: one request, nothing to confirm");
    let next = json!({ "to": "u2@example.com", "text": "hello" });
    let next = suite.request(Method::POST, "/mail/v1/messages", Some(next)).await;
    assert_eq!((&next.body["recipients"], &next.body["suppressed"]), (&json!(1), &json!(0)), "not all mail: {next:?}");
    let list = suite.request(Method::GET, "/mail/v1/suppressions", None).await.body;
    let stops = |entry: &Value| entry["address"] == "u2@example.com" && entry["stream"] == "broadcast";
    assert!(list["suppressions"].as_array().unwrap().iter().any(stops), "at once: {list}");
    wait_until("something that userlist is still to be told", SOON, || async {
        let url = format!("http://{}/metrics", suite.address("mail-1"));
        let metrics = suite.client.get(url).send().await.unwrap().text().await.unwrap();
        metrics.lines().any(|line| line == "mail_userlist_untold 1")
    })
    .await;
    suite.run("userlist-1");
    suite.run("userlist-2");
    wait_until("the status in userlist", SOON * 4, || async { status(&suite, "user2").await == "unsubscribed" }).await;
}
