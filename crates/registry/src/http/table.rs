//! The table of services that cannot send heartbeats.

use axum::{Json, extract::State};

use super::{SharedApi, openapi::UsualOfMemory};
use crate::table::{TableReport, TableView};

/// The instances of the table of services, and how their checks go.
#[utoipa::path(get, path = "/v1/table", operation_id = "table", tag = "registry",
    responses((status = 200, description = "The answer; without a table, `file` is null and the lists are empty.",
        body = TableReport), UsualOfMemory))]
pub(super) async fn report(State(api): State<SharedApi>) -> Json<TableReport> {
    Json(api.table.as_ref().map(TableView::report).unwrap_or_default())
}
