//! A registry that does as a test says: accepts, refuses, says nothing, dies, comes back.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use discovery::{InstanceId, Status};
use heartbeat::{Heartbeat, HeartbeatOptions};
use serde_json::{Value, json};
use testkit::wait::{SOON, wait_for_eq, wait_until};
use tokio::runtime::Runtime;

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// 200 with what the heartbeat said and the default rhythm.
    Accept,
    /// As a registry of before `degraded` and reasons: 422 for what it does not know, else as [`Answer::Accept`].
    Older,
    /// 200 with this body.
    Body(Value),
    /// This status and this `Retry-After`, with a problem body.
    Status(u16, Option<&'static str>),
    /// This status, with a problem body that has this code.
    Problem(u16, &'static str),
    /// As [`Answer::Accept`], but only without the field `incarnation`, as a registry of an earlier version.
    AcceptOld,
    /// 307 to this URL.
    Redirect(String),
    /// It reads the request and says nothing, for ever.
    Silent,
    /// 200 and a body that never ends.
    Endless,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Without the incarnation.
    pub(crate) body: Value,
    /// The life that a heartbeat says it is of.
    pub(crate) life: Option<String>,
    /// The incarnation that a DELETE is only for.
    pub(crate) if_match: Option<String>,
    pub(crate) at: SystemTime,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    received: Mutex<Vec<Received>>,
}

/// A registry on a loopback port that it keeps, dead or alive. It runs on threads of its own, so that its death closes
/// every connection as that of a process would.
#[derive(Debug)]
pub(crate) struct FakeRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

// === impl FakeRegistry ===

impl FakeRegistry {
    pub(crate) fn start() -> Self {
        Self::answering(Answer::Accept)
    }

    pub(crate) fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared { answer: Mutex::new(answer), received: Mutex::default() });
        let address = listener.local_addr().unwrap();
        let runtime = Some(serve(listener, Arc::clone(&shared)));
        Self { address, shared, runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Closes its port and every connection.
    pub(crate) async fn die(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        let address = self.address;
        wait_until("the registry's port to be closed", SOON, || async move {
            tokio::net::TcpStream::connect(address).await.is_err()
        })
        .await;
    }

    /// Listens on the same port again.
    pub(crate) fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.runtime = Some(serve(listener, Arc::clone(&self.shared)));
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.shared.received.lock().unwrap().clear();
    }

    /// The heartbeats among what arrived.
    pub(crate) fn heartbeats(&self) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.method == Method::PUT).collect()
    }

    /// `PUT passing`, `PUT draining`, `DELETE` …, without repetitions.
    pub(crate) fn story(&self) -> Vec<String> {
        let mut story: Vec<String> = self.received().iter().map(Received::word).collect();
        story.dedup();
        story
    }

    /// Waits for this story: who leaves does not wait for the answer for long.
    pub(crate) async fn tells(&self, story: &[&str]) {
        let story: Vec<String> = story.iter().map(|word| (*word).to_owned()).collect();
        wait_for_eq("the story", SOON, story, || async { self.story() }).await;
    }

    pub(crate) async fn wait_for_heartbeats(&self, count: usize) {
        wait_until("enough heartbeats", SOON, || async { self.heartbeats().len() >= count }).await;
    }

    pub(crate) async fn wait_for_word(&self, word: &str) {
        wait_until(word, SOON, || async { self.received().iter().any(|received| received.word() == word) }).await;
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Received {
    fn word(&self) -> String {
        let status = self.body.get("status").and_then(Value::as_str).unwrap_or("passing");
        if self.method == Method::PUT { format!("PUT {status}") } else { self.method.to_string() }
    }
}

/// Options for these registries. The TTL is the default one unless a test changes it.
pub(crate) fn options(registries: &[&FakeRegistry]) -> HeartbeatOptions {
    options_for(registries.iter().map(|registry| registry.url()))
}

pub(crate) fn options_for(urls: impl IntoIterator<Item = String>) -> HeartbeatOptions {
    HeartbeatOptions::for_registries(urls.into_iter().map(|url| url.parse().unwrap()).collect())
}

/// Announces an instance of `mail` on 127.0.0.1:7070, where no program needs to listen.
pub(crate) fn announce(options: &HeartbeatOptions) -> Heartbeat {
    let listen = "127.0.0.1:7070".parse().unwrap();
    Heartbeat::start("mail".parse().unwrap(), listen, options, heartbeat::Details::default())
}

pub(crate) async fn wait_until_registered(heartbeat: &Heartbeat, expected: bool) {
    let state = heartbeat.state();
    wait_until("the state of the registration", SOON, || async { state.borrow().registered == expected }).await;
}

/// The id of [`announce`].
pub(crate) fn default_id() -> InstanceId {
    "127.0.0.1:7070".parse().unwrap()
}

/// A port of 127.0.0.1 on which no program listens.
pub(crate) fn unused_url() -> String {
    format!("http://127.0.0.1:{}", testkit::ports::free_ports(1)[0])
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, Router::new().fallback(handle).with_state(shared)).await.unwrap();
    });
    runtime
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let has_reason = body.get("reason").is_some() || body["status"] == "degraded";
    let life = body.as_object_mut().and_then(|body| body.remove("incarnation"));
    let life = life.and_then(|life| life.as_str().map(str::to_owned));
    let if_match = head.headers.get(header::IF_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
    let status = body.get("status").cloned().unwrap_or_else(|| json!(Status::Passing));
    let is_put = head.method == Method::PUT;
    let received =
        Received { method: head.method, path: head.uri.path().to_owned(), body, life, if_match, at: SystemTime::now() };
    let is_new = received.life.is_some();
    shared.received.lock().unwrap().push(received);
    let answer = shared.answer.lock().unwrap().clone();
    match answer {
        Answer::Older if has_reason => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        Answer::Accept | Answer::AcceptOld | Answer::Older if !is_put => StatusCode::NO_CONTENT.into_response(),
        Answer::AcceptOld if is_new => {
            let reason = "unknown field `incarnation`, expected one of `address`, `scheme`";
            let errors = json!([{"field": "incarnation", "reason": reason}]);
            let detail = format!("incarnation: {reason}");
            let problem = json!({"status": 422, "code": "invalid_field", "detail": detail, "errors": errors});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response()
        }
        Answer::Problem(status, code) => {
            let problem = json!({"status": status, "code": code, "detail": "because the test says so"});
            (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
        }
        Answer::Accept | Answer::AcceptOld | Answer::Older => {
            let ttl_ms = 5000;
            Json(json!({"ttl_ms": ttl_ms, "next_heartbeat_ms": ttl_ms * 2 / 5, "status": status, "revision": 7}))
                .into_response()
        }
        Answer::Body(body) => Json(body).into_response(),
        Answer::Status(status, retry_after) => {
            let problem = json!({"status": status, "code": "because", "detail": "because the test says so"});
            let mut response = (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response();
            if let Some(retry_after) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, retry_after.parse().unwrap());
            }
            response
        }
        Answer::Redirect(url) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response(),
        Answer::Silent => std::future::pending().await,
        Answer::Endless => {
            let drops = futures::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 64])), ()))
            });
            Body::from_stream(drops).into_response()
        }
    }
}
