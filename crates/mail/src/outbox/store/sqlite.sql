-- The outbox in SQLite. Every statement may run again: a process brings the tables up to date whenever it opens them.
-- Times are milliseconds since 1970.
CREATE TABLE IF NOT EXISTS messages (
    id         TEXT    NOT NULL PRIMARY KEY,
    message_id TEXT    NOT NULL,
    sender     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    content    BLOB    NOT NULL,
    created_ms INTEGER NOT NULL,
    broadcast  TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS messages_broadcast ON messages (broadcast);

-- A content that is too large for one row, block by block; `messages.content` is empty then. Blocks are stored before the
-- message is: those without one belong to a request that came to nothing.
CREATE TABLE IF NOT EXISTS content_blocks (
    message  TEXT    NOT NULL,
    position INTEGER NOT NULL,
    bytes    BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS content_blocks_message ON content_blocks (message, position);
CREATE TABLE IF NOT EXISTS large_contents (
    message TEXT    NOT NULL PRIMARY KEY,
    length  INTEGER NOT NULL
) STRICT;

-- One row a recipient: each has a fate of its own.
CREATE TABLE IF NOT EXISTS deliveries (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    message          TEXT    NOT NULL,
    recipient        TEXT    NOT NULL,
    domain           TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    bulk             INTEGER NOT NULL,
    state            TEXT    NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0,
    due_ms           INTEGER NOT NULL,
    expires_ms       INTEGER NOT NULL,
    claim            TEXT    NOT NULL DEFAULT '',
    claimed_until_ms INTEGER NOT NULL DEFAULT 0,
    outcome          TEXT    NOT NULL DEFAULT '',
    reply            TEXT    NOT NULL DEFAULT '',
    settled_ms       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, bulk, due_ms, id);
CREATE INDEX IF NOT EXISTS deliveries_message ON deliveries (message);

CREATE TABLE IF NOT EXISTS attempts (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    took_ms  INTEGER NOT NULL,
    outcome  TEXT    NOT NULL,
    reply    TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS attempts_delivery ON attempts (delivery);

CREATE TABLE IF NOT EXISTS idempotency_keys (
    name        TEXT    NOT NULL PRIMARY KEY,
    fingerprint TEXT    NOT NULL,
    answer      TEXT    NOT NULL,
    created_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS suppressions (
    address    TEXT    NOT NULL PRIMARY KEY,
    reason     TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS templates (
    name       TEXT    NOT NULL PRIMARY KEY,
    body       TEXT    NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS broadcasts (
    id               TEXT    NOT NULL PRIMARY KEY,
    body             TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    position         TEXT    NOT NULL DEFAULT '',
    total            INTEGER NOT NULL DEFAULT 0,
    queued           INTEGER NOT NULL DEFAULT 0,
    skipped          INTEGER NOT NULL DEFAULT 0,
    error            TEXT    NOT NULL DEFAULT '',
    created_ms       INTEGER NOT NULL,
    changed_ms       INTEGER NOT NULL,
    claim            TEXT    NOT NULL DEFAULT '',
    claimed_until_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS unsubscribe_tokens (
    token      TEXT    NOT NULL PRIMARY KEY,
    address    TEXT    NOT NULL,
    broadcast  TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

-- What userlist is still to be told.
CREATE TABLE IF NOT EXISTS farewells (
    address    TEXT    NOT NULL PRIMARY KEY,
    status     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_ms     INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS farewells_due ON farewells (due_ms);

-- Addresses that get nothing of one stream, broadcast or transactional. `told_ms`: when userlist had learned of it; 0: not yet.
CREATE TABLE IF NOT EXISTS stream_suppressions (
    address    TEXT    NOT NULL,
    stream     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    told_ms    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (address, stream)
) STRICT;

-- Users of broadcasts' selections who get no message.
CREATE TABLE IF NOT EXISTS broadcast_skips (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    broadcast  TEXT    NOT NULL,
    user_name  TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS broadcast_skips_broadcast ON broadcast_skips (broadcast, id);
CREATE INDEX IF NOT EXISTS broadcast_skips_created ON broadcast_skips (created_ms);

-- What messages are found by: `tag`, and `metadata.NAME`.
CREATE TABLE IF NOT EXISTS message_labels (
    message TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (message, name)
) STRICT;
CREATE INDEX IF NOT EXISTS message_labels_value ON message_labels (name, value, message);

-- What the webhook's receiver is still to be told. A claim is a later `due_ms`.
CREATE TABLE IF NOT EXISTS webhook_events (
    id         TEXT    NOT NULL PRIMARY KEY,
    body       TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_ms     INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS webhook_events_due ON webhook_events (due_ms, id);
