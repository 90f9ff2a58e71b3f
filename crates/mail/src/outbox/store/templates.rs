//! Templates, as they are kept.

use serde::Serialize;
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

use super::{Outbox, OutboxError, sql::query};
use crate::templates::Template;

/// A template with its name.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StoredTemplate {
    /// What requests call it.
    pub name: String,
    /// When it was last uploaded.
    pub changed_at: UnixMillis,
    /// What it is.
    #[serde(flatten)]
    #[schema(ignore)]
    pub template: Template,
}

type Row = (String, String, i64);

impl Outbox {
    /// Keeps a checked template under `name`, instead of the one that was there.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn put_template(&self, name: &str, template: &Template) -> Result<(), OutboxError> {
        let body = serde_json::to_string(template).expect("a struct of strings and JSON becomes JSON");
        let name = name.to_owned();
        let now = UnixMillis::now();
        let putting = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                query("DELETE FROM templates WHERE name = ?").bind(&name).execute(&mut *connection).await?;
                let insert = query("INSERT INTO templates (name, body, changed_ms) VALUES (?, ?, ?)");
                insert.bind(&name).bind(body).bind(now.0).execute(connection).await?;
                Ok(())
            })
        }));
        putting.await
    }

    /// The template of that name.
    ///
    /// # Errors
    /// There is none; or the outbox cannot be used.
    pub async fn template(&self, name: &str) -> Result<StoredTemplate, OutboxError> {
        let name = name.to_owned();
        let row: Option<Row> = self
            .database
            .read(Box::new(move |connection| {
                Box::pin(async move {
                    let select = query("SELECT name, body, changed_ms FROM templates WHERE name = ?");
                    select.bind(name).fetch_optional(connection).await
                })
            }))
            .await?;
        row.and_then(stored_template).ok_or(OutboxError::NotFound)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn templates(&self) -> Result<Vec<StoredTemplate>, OutboxError> {
        let rows: Vec<Row> = self
            .database
            .read(Box::new(move |connection| {
                Box::pin(async move {
                    let select = "SELECT name, body, changed_ms FROM templates ORDER BY name LIMIT 1000";
                    query(select).fetch_all(connection).await
                })
            }))
            .await?;
        Ok(rows.into_iter().filter_map(stored_template).collect())
    }

    /// Takes a template away. Messages that were accepted with it stay as they are.
    ///
    /// # Errors
    /// There is none; or the outbox cannot be used.
    pub async fn delete_template(&self, name: &str) -> Result<(), OutboxError> {
        let name = name.to_owned();
        let deleting = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let delete = query("DELETE FROM templates WHERE name = ?").bind(name);
                match delete.execute(connection).await?.rows_affected() {
                    0 => Err(OutboxError::NotFound),
                    _ => Ok(()),
                }
            })
        }));
        deleting.await
    }
}

fn stored_template((name, body, changed): Row) -> Option<StoredTemplate> {
    Some(StoredTemplate { name, changed_at: UnixMillis(changed), template: serde_json::from_str(&body).ok()? })
}
