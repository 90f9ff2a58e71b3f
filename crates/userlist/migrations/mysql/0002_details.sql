-- What goes with a user: status, tags, attributes, a version, times; and keys to find and sort by. See migrations/sqlite.
--
-- MySQL has no ADD COLUMN IF NOT EXISTS (MariaDB has), so the statement is only carried out where it has not been: it is
-- one statement, and either all of it happens or nothing. DYNAMIC rows can have keys of 3072 bytes; email_key needs 1536.
SET @statement = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 'users' AND column_name = 'email_key') > 0,
    'DO 0',
    'ALTER TABLE users
        ADD COLUMN status      VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT ''active'',
        ADD COLUMN tags        TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
        ADD COLUMN attributes  TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
        ADD COLUMN version     BIGINT NOT NULL DEFAULT 1,
        ADD COLUMN created_at  BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN updated_at  BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN email_key   VARCHAR(384) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '''',
        ADD COLUMN email_claim VARCHAR(384) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
        ADD COLUMN search_key  VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '''',
        ADD KEY users_email_key (email_key),
        ADD UNIQUE KEY users_email_claim (email_claim),
        ADD KEY users_updated_at (updated_at),
        ROW_FORMAT = DYNAMIC'
);
PREPARE statement FROM @statement;
EXECUTE statement;
DEALLOCATE PREPARE statement;
