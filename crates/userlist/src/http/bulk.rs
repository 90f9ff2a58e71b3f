//! `PATCH` and `DELETE /v1/users?…`: the same change to all users of a filter.
//!
//! It goes through them in the order of their ids, in steps that are committed one by one, for [`TIME_MAX`] at most:
//! before a gateway gives the request up. Then the answer says where to go on, and the same request with that `cursor`
//! does.

use std::time::Duration;

use axum::{
    Json,
    extract::{RawQuery, State},
};
use discovery::FieldError;
use serde::Serialize;
use service_kit::{Problem, json::JsonBody};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    error::{invalid, problem},
    input::BulkBody,
    listing::{Cursor, filter, not_a_cursor},
    openapi::{Filters, ManyAtOnce, OfABody, Usual},
    query::{cut, each_once, flag},
};
use crate::{
    store::{BATCH_MAX, BulkChange, BulkStep, Filter, Page, Position, Sort, SortKey, Store, StoreError},
    user::UserId,
};

/// How long one request goes on with the next step.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The most refused users that a report tells; of the others it tells how many there were.
const ERRORS_MAX: usize = 1000;

/// Whom it is about.
struct Selection {
    filter: Filter,
    after: Option<Position>,
    is_dry_run: bool,
}

/// What was done, or in a dry run would be.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = BulkReport)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    /// Nothing was changed.
    dry_run: bool,
    /// All users of the filter had their turn.
    is_complete: bool,
    changed: u64,
    unchanged: u64,
    deleted: u64,
    refused: u64,
    errors: Vec<UserError>,
    errors_left_out: u64,
    /// What to give as `cursor` to go on; null when it is complete.
    #[schema(required)]
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserError {
    #[schema(inline)]
    id: UserId,
    field: String,
    reason: String,
}

/// Change all users of a filter
///
/// Scope: userlist:operate.
#[utoipa::path(patch, path = "/v1/users", operation_id = "changeUsers", params(Filters, ManyAtOnce), request_body = BulkBody,
    responses((status = 200, description = "What was done; look at is_complete", body = Report), Usual, OfABody))]
pub(super) async fn change(
    State(store): State<Store>,
    RawQuery(query): RawQuery,
    JsonBody(body): JsonBody<BulkBody>,
) -> Result<Json<Report>, Problem> {
    let selection = Selection::parse(&query.unwrap_or_default())?;
    selection.all(&store, &BulkChange::Change(Box::new(body.into_changes()?))).await
}

/// Delete all users of a filter
///
/// Scope: userlist:operate.
#[utoipa::path(delete, path = "/v1/users", operation_id = "deleteUsers", params(Filters, ManyAtOnce),
    responses((status = 200, description = "What was done; look at is_complete", body = Report), Usual))]
pub(super) async fn delete(State(store): State<Store>, RawQuery(query): RawQuery) -> Result<Json<Report>, Problem> {
    Selection::parse(&query.unwrap_or_default())?.all(&store, &BulkChange::Delete).await
}

// === impl Selection ===

impl Selection {
    /// Reads a query string. Without a filter it takes `all=true`: a forgotten one must not mean all users, nor one
    /// that is empty all that the others let through.
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut chosen = Filter::default();
        let mut cursor = None;
        let mut is_dry_run = false;
        let mut is_all = false;
        let mut errors = each_once(query, |key, value| match key {
            "cursor" => {
                cursor = Some(value.to_owned());
                Ok(())
            }
            "dry_run" => flag("dry_run", value).map(|is| is_dry_run = is),
            "all" => flag("all", value).map(|is| is_all = is),
            _ => filter(&mut chosen, key, value, "cursor, dry_run and all"),
        });
        errors.extend(empty(query));
        if errors.is_empty() && chosen.is_unrestricted() != is_all {
            let reason =
                if is_all { "it contradicts the filter; leave one of them out" } else { "give a filter, or all=true" };
            errors.push(FieldError::new("all", reason));
        }
        let fingerprint = chosen.fingerprint(Sort::default());
        let cursor = cursor.map(|cursor| Cursor::parse(&cursor, fingerprint, SortKey::Id).ok_or_else(not_a_cursor));
        let after = match cursor.transpose() {
            Ok(cursor) => cursor.map(|cursor| cursor.after),
            Err(error) => {
                errors.push(error);
                None
            }
        };
        if errors.is_empty() { Ok(Self { filter: chosen, after, is_dry_run }) } else { Err(invalid(errors)) }
    }

    async fn all(self, store: &Store, change: &BulkChange) -> Result<Json<Report>, Problem> {
        let mut report = Report { dry_run: self.is_dry_run, ..Report::default() };
        let rows = u32::try_from(BATCH_MAX).unwrap_or(u32::MAX);
        let mut page = Page { filter: self.filter, sort: Sort::default(), after: self.after, rows };
        let until = Instant::now() + TIME_MAX;
        loop {
            match store.change_all(&page, change, self.is_dry_run).await {
                Ok(step) => page.after = report.add(step),
                Err(error) => return Err(report.cut_short(&page, &error)),
            }
            report.is_complete = page.after.is_none();
            if report.is_complete || Instant::now() >= until {
                report.next_cursor = cursor(&page);
                return Ok(Json(report));
            }
        }
    }
}

/// Filters without a value, which a list passes over.
fn empty(query: &str) -> Vec<FieldError> {
    let is_filter = |key: &str| !matches!(key, "cursor" | "dry_run" | "all");
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(key, value)| is_filter(key) && value.trim().is_empty())
        .map(|(key, _)| FieldError::new(cut(&key), "it is empty; give it a value, or leave it out"))
        .collect()
}

fn cursor(page: &Page) -> Option<String> {
    let after = page.after.clone()?;
    Some(Cursor { after, total: None }.to_text(page.filter.fingerprint(page.sort)))
}

// === impl Report ===

impl Report {
    fn add(&mut self, step: BulkStep) -> Option<Position> {
        let BulkStep { changed, unchanged, deleted, refused, next } = step;
        self.changed += changed;
        self.unchanged += unchanged;
        self.deleted += deleted;
        self.refused += refused.len() as u64;
        for (id, FieldError { field, reason }) in refused {
            if self.errors.len() < ERRORS_MAX {
                self.errors.push(UserError { id, field: field.into_owned(), reason });
            } else {
                self.errors_left_out += 1;
            }
        }
        next
    }

    /// A problem, with what was done before it beside it.
    fn cut_short(mut self, page: &Page, error: &StoreError) -> Problem {
        self.next_cursor = cursor(page);
        let mut problem = problem(error);
        problem.detail = format!(
            "{}; what the report counts was done before, and the same request may be sent again",
            problem.detail
        );
        let report = serde_json::to_value(self).unwrap_or_default();
        problem.with("report", report)
    }
}
