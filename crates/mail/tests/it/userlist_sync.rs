//! Unsubscribed and bounced users: the suppression list works at once, and userlist gets the change when it is reachable.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, patch},
};
use serde_json::{Value, json};
use testkit::{
    database::Database,
    smtp_sink::SmtpSink,
    wait::{SOON, wait_until},
};

use crate::service::Mail;

/// Userlist behind a gateway, as far as it matters here; the real ones are in the end-to-end tests.
#[derive(Default)]
pub(crate) struct Users {
    by_id: Mutex<BTreeMap<i64, (String, String, i64)>>,
    pub(crate) is_down: AtomicBool,
    /// Requests that were turned away because it is down.
    turned_away: AtomicUsize,
    /// So many changes meet somebody else's.
    pub(crate) contended: AtomicUsize,
}

async fn find(State(users): State<Arc<Users>>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if users.is_down.load(Ordering::SeqCst) {
        users.turned_away.fetch_add(1, Ordering::SeqCst);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let known = users.by_id.lock().unwrap().clone();
    let is = |wanted: &str, value: &String| query.get(wanted).is_none_or(|wanted| wanted == value);
    let found = known.into_iter().filter(|(_, (email, status, _))| is("email", email) && is("status", status));
    let shown: Vec<Value> = found
        .map(|(id, (email, status, version))| {
            json!({ "id": id, "name": format!("user{id}"), "email": email, "status": status, "version": version })
        })
        .collect();
    Json(json!({ "users": shown, "next_cursor": null, "total": shown.len() })).into_response()
}

async fn change(
    State(users): State<Arc<Users>>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    let mut by_id = users.by_id.lock().unwrap();
    let Some((_, status, version)) = by_id.get_mut(&id) else { return StatusCode::NOT_FOUND };
    let is_contended = |left: usize| left.checked_sub(1);
    if users.contended.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_contended).is_ok() {
        *version += 1;
    }
    if headers["if-match"] != format!("\"{id}-{version}\"").as_str() {
        return StatusCode::PRECONDITION_FAILED;
    }
    *status = body["status"].as_str().unwrap().to_owned();
    *version += 1;
    StatusCode::OK
}

impl Users {
    /// Two share `a@b.c`.
    pub(crate) async fn start() -> (Arc<Self>, String) {
        let users = Arc::new(Self::default());
        for (id, email) in [(1, "a@b.c"), (2, "a@b.c"), (3, "d@e.f"), (4, "g@h.i")] {
            users.by_id.lock().unwrap().insert(id, (email.to_owned(), "active".to_owned(), 1));
        }
        let router = Router::new()
            .route("/userlist/v1/users", get(find))
            .route("/userlist/v1/users/by-id/{id}", patch(change))
            .with_state(Arc::clone(&users));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (users, url)
    }

    pub(crate) fn statuses(&self) -> Vec<String> {
        self.by_id.lock().unwrap().values().map(|(_, status, _)| status.clone()).collect()
    }

    /// Gives a user another status, as an operator does.
    pub(crate) fn set_status(&self, id: i64, wanted: &str) {
        let mut by_id = self.by_id.lock().unwrap();
        let (_, status, version) = by_id.get_mut(&id).unwrap();
        (*status, *version) = (wanted.to_owned(), *version + 1);
    }

    pub(crate) async fn until(&self, expected: [&str; 4]) {
        wait_until(&format!("{expected:?}"), SOON, || async { self.statuses() == expected }).await;
    }
}

pub(crate) async fn bounce(mail: &Mail, address: &str, kind: &str) {
    let answer = mail.call("POST", "/v1/bounces", &json!({ "address": address, "type": kind })).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

pub(crate) async fn updates_waiting(mail: &Mail, count: i64) {
    wait_until("what is to be told", SOON, || async { mail.outbox.userlist_updates_waiting().await.unwrap() == count })
        .await;
}

#[tokio::test]
async fn everybody_with_a_bounced_address_is_bounced_in_userlist_and_a_complaint_unsubscribes() {
    let (sink, (users, gateway)) = (SmtpSink::start().await, Users::start().await);
    let mail = Mail::working(&sink, &["--gateway-url", &gateway]);
    bounce(&mail, "A@b.c", "hard").await;
    bounce(&mail, "d@e.f", "complaint").await;
    bounce(&mail, "g@h.i", "soft").await;
    mail.call("PUT", "/v1/suppressions/g@h.i", &json!({})).await;
    users.until(["bounced", "bounced", "unsubscribed", "active"]).await;
    updates_waiting(&mail, 0).await;
    bounce(&mail, "d@e.f", "hard").await;
    updates_waiting(&mail, 0).await;
    assert_eq!(users.statuses()[2], "unsubscribed", "a bounce does not undo that somebody left");
}

async fn told_later(outbox: &str) {
    let (sink, (users, gateway)) = (SmtpSink::start().await, Users::start().await);
    let args = ["--gateway-url", &gateway, "--outbox-url", outbox];
    users.is_down.store(true, Ordering::SeqCst);
    let first = Mail::working(&sink, &args);
    bounce(&first, "a@b.c", "hard").await;
    let answer = first.submit(&json!({ "to": ["a@b.c", "d@e.f"], "text": "hello" })).await;
    assert_eq!(answer.body["suppressed"], 1, "the list works at once: {answer:?}");
    updates_waiting(&first, 1).await;
    drop(first);
    users.is_down.store(false, Ordering::SeqCst);
    users.contended.store(1, Ordering::SeqCst);
    let second = Mail::working(&sink, &args);
    wait_until("the status", SOON * 2, || async { users.statuses()[..2] == ["bounced", "bounced"] }).await;
    updates_waiting(&second, 0).await;
}

#[tokio::test]
async fn what_userlist_could_not_be_told_is_told_when_it_is_back_by_whoever_runs_then() {
    let dir = tempfile::tempdir().unwrap();
    told_later(&format!("sqlite:{}", dir.path().join("outbox.db").display())).await;
}

#[tokio::test]
async fn the_same_with_an_outbox_in_mysql() {
    let database = Database::start().await;
    told_later(&database.create("mail")).await;
}

#[tokio::test]
async fn who_is_taken_off_the_list_before_userlist_knew_is_never_told_of() {
    let (sink, (users, gateway)) = (SmtpSink::start().await, Users::start().await);
    users.is_down.store(true, Ordering::SeqCst);
    let mail = Mail::working(&sink, &["--gateway-url", &gateway]);
    bounce(&mail, "a@b.c", "hard").await;
    updates_waiting(&mail, 1).await;
    // The first attempt is over, the next one seconds away: what is on its way to userlist is known there.
    wait_until("an attempt", SOON, || async { users.turned_away.load(Ordering::SeqCst) > 0 }).await;
    assert_eq!(mail.call("DELETE", "/v1/suppressions/a@b.c", &Value::Null).await.status, 204);
    users.is_down.store(false, Ordering::SeqCst);
    updates_waiting(&mail, 0).await;
    assert_eq!(users.statuses(), ["active"; 4]);
}
