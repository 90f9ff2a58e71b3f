-- Who is on the list.
--
-- Every migration for MySQL must be repeatable (IF NOT EXISTS): MySQL commits each change of a table by itself, so a
-- process that is killed half-way leaves the migration marked as begun, and the next one to start runs it again.
--
-- utf8mb4_bin compares code points: "Dong", "dong" and "döng" are three people, and so are two emoji. It ignores
-- spaces at the end, which is why no name ends in one. 128 characters of at most 4 bytes fit into the 767 bytes that
-- the oldest row formats can index.
CREATE TABLE IF NOT EXISTS users (
    id    BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name  VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    email VARCHAR(254) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    UNIQUE KEY users_name (name)
) ENGINE = InnoDB;
