-- Who is on the list.
--
-- AUTOINCREMENT, so that the id of a deleted user is never given to another. Text is compared byte by byte (BINARY is
-- the default collation): "Dong", "dong" and "döng" are three people.
CREATE TABLE users (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    name  TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL
) STRICT;
