use csv_async::AsyncWriter;
use futures::{Stream, TryStreamExt as _, stream};

use super::Format;
use crate::{
    store::{Filter, Page, Position, Sort, Store, StoreError},
    user::User,
};

/// Users a step.
const ROWS: u32 = 1000;

const HEADER: [&str; 9] =
    ["id", "name", "email", "status", "tags", "attributes", "version", "created_at", "updated_at"];

/// How users are written into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Export {
    /// In which format.
    pub format: Format,
    /// For a spreadsheet, and not to be imported again: cells that it would take for formulas begin with `'`, and a
    /// byte order mark tells it that the file is UTF-8. Only for tables.
    pub is_for_spreadsheet: bool,
}

/// The users of a filter in the order of their ids, as pieces of a file. A user who is there from the beginning to the
/// end is in it once; one who comes or goes meanwhile may be in it or not.
pub fn export(store: Store, filter: Filter, how: Export) -> impl Stream<Item = Result<Vec<u8>, StoreError>> {
    let byte_order_mark = if how.is_for_spreadsheet { "\u{feff}" } else { "" };
    let mut header = match how.format {
        Format::Csv => Some(format!("{byte_order_mark}{}\n", HEADER.join(",")).into_bytes()),
        Format::Ndjson => None,
    };
    let steps = stream::try_unfold(Some(None), move |place: Option<Option<Position>>| {
        let store = store.clone();
        let filter = filter.clone();
        async move {
            let Some(after) = place else { return Ok(None) };
            let page = Page { filter, sort: Sort::default(), after, rows: ROWS };
            let users = store.list(&page).await?;
            let next = users.last().filter(|_| users.len() == ROWS as usize);
            let next = next.map(|user| Some(page.sort.position(user)));
            Ok(Some((write(&users, how).await, next)))
        }
    });
    // The first step first, so that a database that is not there is noticed before the header is sent.
    steps.map_ok(move |mut bytes| match header.take() {
        Some(mut first) => {
            first.append(&mut bytes);
            first
        }
        None => bytes,
    })
}

async fn write(users: &[User], how: Export) -> Vec<u8> {
    match how.format {
        Format::Csv => table(users, how.is_for_spreadsheet).await,
        Format::Ndjson => {
            let mut bytes = Vec::new();
            for user in users {
                serde_json::to_writer(&mut bytes, user).expect("strings and numbers always become JSON");
                bytes.push(b'\n');
            }
            bytes
        }
    }
}

async fn table(users: &[User], is_for_spreadsheet: bool) -> Vec<u8> {
    let mut writer = AsyncWriter::from_writer(Vec::new());
    for user in users {
        let attributes = if user.attributes.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&user.attributes).expect("JSON")
        };
        let cells = [
            user.id.0.to_string(),
            user.name.as_str().to_owned(),
            user.email.as_str().to_owned(),
            user.status.as_str().to_owned(),
            user.tags.iter().collect::<Vec<_>>().join(";"),
            attributes,
            user.version.to_string(),
            user.created_at.to_string(),
            user.updated_at.to_string(),
        ];
        let cells = if is_for_spreadsheet { cells.map(defused) } else { cells };
        writer.write_record(&cells).await.expect("nothing fails in memory, and all rows are of one length");
    }
    writer.into_inner().await.expect("nothing fails in memory")
}

/// A cell that a spreadsheet shows and does not compute ("CSV Injection", OWASP): formulas begin with one of these,
/// also in their full width.
fn defused(cell: String) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
    if is_formula { format!("'{cell}") } else { cell }
}
