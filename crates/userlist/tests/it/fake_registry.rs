//! A registry that takes every heartbeat and remembers what it said.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::put};
use discovery::{
    Status,
    heartbeat::{FullHeartbeat, HeartbeatReply},
};

/// What instances said, in order; `None` is a deregistration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<Option<Status>>>>);

/// Dropped, it goes on until the test's runtime ends.
#[derive(Debug)]
pub(crate) struct FakeRegistry {
    pub(crate) url: String,
    pub(crate) said: Said,
}

// === impl FakeRegistry ===

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let said = Said::default();
        let routes = Router::new()
            .route("/v1/services/{service}/instances/{instance}", put(heartbeat).delete(deregister))
            .with_state(said.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = tokio_util::sync::CancellationToken::new();
        tokio::spawn(service_kit::serve::serve(
            listener,
            routes,
            service_kit::serve::ServeOptions::default(),
            shutdown,
        ));
        Self { url, said }
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

    pub(crate) fn all(&self) -> Vec<Option<Status>> {
        self.said.0.lock().unwrap().clone()
    }
}

async fn heartbeat(State(said): State<Said>, Json(heartbeat): Json<FullHeartbeat>) -> Json<HeartbeatReply> {
    let status = heartbeat.status.unwrap_or_default();
    said.0.lock().unwrap().push(Some(status));
    Json(HeartbeatReply { ttl_ms: 5000, next_heartbeat_ms: 2000, status, revision: 1 })
}

async fn deregister(State(said): State<Said>) -> StatusCode {
    said.0.lock().unwrap().push(None);
    StatusCode::NO_CONTENT
}
