//! Many users at once: import and export, as CSV or as NDJSON (a JSON object a line).
//!
//! | module | what it settles |
//! |---|---|
//! | `format` | which of the two |
//! | `options` | what the columns of a file mean, and what is done to every user in it |
//! | `records` | from bytes to users, line by line |
//! | `import` | from users to the store, batch by batch, and the report |
//! | `export` | from the store to bytes, page by page |
//!
//! Both directions stream: what is in memory is one batch, however long the list is. CSV has a header with the columns
//! `name`, `email`, `status`, `tags` (separated by `;`) and `attributes` (a JSON object), of which an import needs the
//! first two, in any order and, when that is said, under other names; `id`, `version`, `created_at` and `updated_at`,
//! which an export writes, are read over. A cell that is empty, like a member that is missing, leaves what is stored as
//! it is.
//!
//! An import is not one transaction: a million users would block all other requests for minutes. It is a put for each
//! line, committed in batches in the order of the lines. So an import that ended early has stored all that comes before
//! a line, which the report names, and nothing after it; and the same file again is always right.

mod export;
mod format;
mod import;
mod options;
mod records;

pub use export::{Export, export};
pub use format::Format;
pub use import::{Cause, Import, LineError, Report, Stopped};
pub use options::{ColumnName, Delimiter, ImportOptions};
pub use records::{Record, Records, Unreadable};
