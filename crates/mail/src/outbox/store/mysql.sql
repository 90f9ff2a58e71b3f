-- The outbox in MySQL and MariaDB. Every statement may run again: a process brings the tables up to date whenever it opens them.
-- Times are milliseconds since 1970.
CREATE TABLE IF NOT EXISTS messages (
    id         VARCHAR(64) NOT NULL PRIMARY KEY,
    message_id VARCHAR(400) NOT NULL,
    sender     VARCHAR(254) NOT NULL,
    subject    VARCHAR(2000) NOT NULL,
    content    LONGBLOB NOT NULL,
    created_ms BIGINT NOT NULL,
    broadcast  VARCHAR(64) NOT NULL DEFAULT '',
    KEY messages_broadcast (broadcast)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- A content that is too large for one row, block by block; `messages.content` is empty then. Blocks are stored before the
-- message is: those without one belong to a request that came to nothing.
CREATE TABLE IF NOT EXISTS content_blocks (
    message  VARCHAR(64) NOT NULL,
    position BIGINT NOT NULL,
    bytes    MEDIUMBLOB NOT NULL,
    PRIMARY KEY (message, position)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS large_contents (
    message VARCHAR(64) NOT NULL PRIMARY KEY,
    length  BIGINT NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row a recipient: each has a fate of its own.
CREATE TABLE IF NOT EXISTS deliveries (
    id               BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message          VARCHAR(64) NOT NULL,
    recipient        VARCHAR(254) NOT NULL,
    domain           VARCHAR(254) NOT NULL,
    kind             VARCHAR(16) NOT NULL,
    bulk             BIGINT NOT NULL,
    state            VARCHAR(16) NOT NULL,
    attempts         BIGINT NOT NULL DEFAULT 0,
    due_ms           BIGINT NOT NULL,
    expires_ms       BIGINT NOT NULL,
    claim            VARCHAR(64) NOT NULL DEFAULT '',
    claimed_until_ms BIGINT NOT NULL DEFAULT 0,
    outcome          VARCHAR(64) NOT NULL DEFAULT '',
    reply            VARCHAR(2000) NOT NULL DEFAULT '',
    settled_ms       BIGINT NOT NULL DEFAULT 0,
    KEY deliveries_due (state, bulk, due_ms, id),
    KEY deliveries_message (message)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS attempts (
    id       BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    delivery BIGINT NOT NULL,
    at_ms    BIGINT NOT NULL,
    took_ms  BIGINT NOT NULL,
    outcome  VARCHAR(64) NOT NULL,
    reply    VARCHAR(2000) NOT NULL,
    KEY attempts_delivery (delivery)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS idempotency_keys (
    name        VARCHAR(200) NOT NULL PRIMARY KEY,
    fingerprint CHAR(64) NOT NULL,
    answer      TEXT NOT NULL,
    created_ms  BIGINT NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS suppressions (
    address    VARCHAR(254) NOT NULL PRIMARY KEY,
    reason     VARCHAR(64) NOT NULL,
    detail     VARCHAR(2000) NOT NULL,
    created_ms BIGINT NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS templates (
    name       VARCHAR(200) NOT NULL PRIMARY KEY,
    body       MEDIUMTEXT NOT NULL,
    changed_ms BIGINT NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS broadcasts (
    id               VARCHAR(64) NOT NULL PRIMARY KEY,
    body             MEDIUMTEXT NOT NULL,
    state            VARCHAR(16) NOT NULL,
    position         VARCHAR(2000) NOT NULL DEFAULT '',
    total            BIGINT NOT NULL DEFAULT 0,
    queued           BIGINT NOT NULL DEFAULT 0,
    skipped          BIGINT NOT NULL DEFAULT 0,
    error            VARCHAR(2000) NOT NULL DEFAULT '',
    created_ms       BIGINT NOT NULL,
    changed_ms       BIGINT NOT NULL,
    claim            VARCHAR(64) NOT NULL DEFAULT '',
    claimed_until_ms BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS unsubscribe_tokens (
    token      VARCHAR(64) NOT NULL PRIMARY KEY,
    address    VARCHAR(254) NOT NULL,
    broadcast  VARCHAR(64) NOT NULL,
    created_ms BIGINT NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What userlist is still to be told.
CREATE TABLE IF NOT EXISTS farewells (
    address    VARCHAR(254) NOT NULL PRIMARY KEY,
    status     VARCHAR(16) NOT NULL,
    attempts   BIGINT NOT NULL DEFAULT 0,
    due_ms     BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    KEY farewells_due (due_ms)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Addresses that get nothing of one stream, broadcast or transactional. `told_ms`: when userlist had learned of it; 0: not yet.
CREATE TABLE IF NOT EXISTS stream_suppressions (
    address    VARCHAR(254) NOT NULL,
    stream     VARCHAR(16) NOT NULL,
    reason     VARCHAR(64) NOT NULL,
    detail     VARCHAR(2000) NOT NULL,
    created_ms BIGINT NOT NULL,
    told_ms    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (address, stream)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Users of broadcasts' selections who get no message.
CREATE TABLE IF NOT EXISTS broadcast_skips (
    id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    broadcast  VARCHAR(64) NOT NULL,
    user_name  VARCHAR(1000) NOT NULL,
    address    VARCHAR(1000) NOT NULL,
    reason     VARCHAR(64) NOT NULL,
    detail     VARCHAR(2000) NOT NULL,
    created_ms BIGINT NOT NULL,
    KEY broadcast_skips_broadcast (broadcast, id),
    KEY broadcast_skips_created (created_ms)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What messages are found by: `tag`, and `metadata.NAME`.
CREATE TABLE IF NOT EXISTS message_labels (
    message VARCHAR(64) NOT NULL,
    name    VARCHAR(64) NOT NULL,
    value   VARCHAR(200) NOT NULL,
    PRIMARY KEY (message, name),
    KEY message_labels_value (name, value, message)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What the webhook's receiver is still to be told. A claim is a later `due_ms`.
CREATE TABLE IF NOT EXISTS webhook_events (
    id         VARCHAR(64) NOT NULL PRIMARY KEY,
    body       TEXT NOT NULL,
    attempts   BIGINT NOT NULL DEFAULT 0,
    due_ms     BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    KEY webhook_events_due (due_ms, id)
) ENGINE = InnoDB, CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
