-- What dead letters are of, once for all endpoints of a notification. The id is the SHA-256 of the content. A letter without one has its
-- content itself: it is older than this table, of no endpoint, or no text.
CREATE TABLE dead_body (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    made_ms BIGINT NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX dead_body_account ON dead_body (account_id, made_ms, id, bytes);
ALTER TABLE dead_letter ADD COLUMN body_id TEXT;
CREATE INDEX dead_letter_body ON dead_letter (body_id);
-- Whose quota it counts for; empty: that of records which were no notification, and what is not counted yet: of letters of before it is
-- written down in parts, after the start (deliveries/trim.rs).
ALTER TABLE dead_letter ADD COLUMN account_id TEXT NOT NULL DEFAULT '';
CREATE INDEX dead_letter_account ON dead_letter (account_id, id);
