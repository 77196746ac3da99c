-- What requests to an endpoint carry besides, and how long one may take. headers and credentials are JSON: see
-- registry/requests.rs. Both are secrets.
ALTER TABLE endpoint ADD COLUMN headers TEXT;
ALTER TABLE endpoint ADD COLUMN credentials TEXT;
ALTER TABLE endpoint ADD COLUMN timeout_seconds BIGINT;
