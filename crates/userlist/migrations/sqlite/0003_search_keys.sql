-- Who is to get another key to search by, because the old one has one spelling of a domain only and letters that are not folded:
-- all but those whose name and address are plain ASCII. The service computes the keys after the migration, and empties the table.
CREATE TABLE outdated_search_keys (
    id INTEGER PRIMARY KEY
) STRICT;
INSERT INTO outdated_search_keys
SELECT id FROM users
WHERE LENGTH(search_key) <> LENGTH(CAST(search_key AS BLOB)) OR INSTR(email_key, 'xn--') > 0;
