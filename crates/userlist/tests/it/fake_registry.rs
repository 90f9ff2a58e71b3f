//! A registry that takes every heartbeat and remembers what it said.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::put};
use discovery::{
    Reason, Status,
    heartbeat::{FullHeartbeat, HeartbeatReply},
};

/// What instances said, in order; `None` is a deregistration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<Option<Status>>>>);

/// The reasons that came with it, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reasons(Arc<Mutex<Vec<Reason>>>);

/// Dropped, it goes on until the test's runtime ends.
#[derive(Debug)]
pub(crate) struct FakeRegistry {
    pub(crate) url: String,
    pub(crate) said: Said,
    pub(crate) reasons: Reasons,
}

// === impl FakeRegistry ===

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let said = Said::default();
        let reasons = Reasons::default();
        let routes = Router::new()
            .route("/v1/services/{service}/instances/{instance}", put(heartbeat).delete(deregister))
            .with_state((said.clone(), reasons.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = tokio_util::sync::CancellationToken::new();
        tokio::spawn(service_kit::serve::serve(
            listener,
            routes,
            service_kit::serve::ServeOptions::default(),
            shutdown,
        ));
        Self { url, said, reasons }
    }

    /// What the last heartbeat said; none before the first and after a deregistration.
    pub(crate) fn last(&self) -> Option<Status> {
        self.all().last().copied().flatten()
    }

    /// Whether the last that it heard was the farewell; said twice, if the answer took too long.
    pub(crate) fn has_left(&self) -> bool {
        let mut all = self.all();
        all.dedup();
        all.ends_with(&[Some(Status::Draining), None])
    }

    /// The last reason.
    pub(crate) fn reason(&self) -> String {
        self.reasons.0.lock().unwrap().last().map(ToString::to_string).unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Option<Status>> {
        self.said.0.lock().unwrap().clone()
    }
}

async fn heartbeat(
    State((said, reasons)): State<(Said, Reasons)>,
    Json(heartbeat): Json<FullHeartbeat>,
) -> Json<HeartbeatReply> {
    reasons.0.lock().unwrap().extend(heartbeat.reason);
    let status = heartbeat.status.unwrap_or_default();
    said.0.lock().unwrap().push(Some(status));
    Json(HeartbeatReply { ttl_ms: 5000, next_heartbeat_ms: 2000, status, revision: 1, ..HeartbeatReply::default() })
}

async fn deregister(State((said, _)): State<(Said, Reasons)>) -> StatusCode {
    said.0.lock().unwrap().push(None);
    StatusCode::NO_CONTENT
}
