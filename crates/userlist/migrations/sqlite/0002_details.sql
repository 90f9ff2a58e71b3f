-- What goes with a user: status, tags, attributes, a version, times; and keys to find and sort by.
--
-- Times are milliseconds since 1970 in UTC. Keys are computed by the service (SQLite's LOWER knows A to Z only): they are
-- filled in after the migration for the rows that are here already, which an empty email_key marks.
ALTER TABLE users ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE users ADD COLUMN tags TEXT;
ALTER TABLE users ADD COLUMN attributes TEXT;
ALTER TABLE users ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0;
-- What all spellings of an address have in common.
ALTER TABLE users ADD COLUMN email_key TEXT NOT NULL DEFAULT '';
-- The same where addresses must be unique, else null, of which there may be many.
ALTER TABLE users ADD COLUMN email_claim TEXT;
-- Name and address in lower case.
ALTER TABLE users ADD COLUMN search_key TEXT NOT NULL DEFAULT '';
CREATE INDEX users_email_key ON users (email_key);
CREATE UNIQUE INDEX users_email_claim ON users (email_claim);
CREATE INDEX users_updated_at ON users (updated_at);
