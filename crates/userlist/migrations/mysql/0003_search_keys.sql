-- Who is to get another key to search by. See migrations/sqlite.
CREATE TABLE IF NOT EXISTS outdated_search_keys (
    id BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
INSERT IGNORE INTO outdated_search_keys
SELECT id FROM users
WHERE CHAR_LENGTH(search_key) <> LENGTH(search_key) OR INSTR(email_key, 'xn--') > 0;
