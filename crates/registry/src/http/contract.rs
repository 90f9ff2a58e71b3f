//! `GET /v1/muster.proto`: the contract of the registry over gRPC.

use axum::http::{HeaderName, header::CONTENT_TYPE};

use super::openapi::UsualOfMemory;

/// The contract of `muster.v1`, which is spoken on the same port over HTTP/2.
#[utoipa::path(get, path = "/v1/muster.proto", operation_id = "contract", tag = "registry",
    responses((status = 200, description = "The answer.", body = String, content_type = "text/plain"), UsualOfMemory))]
pub(super) async fn proto() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], muster_proto::PROTO)
}
