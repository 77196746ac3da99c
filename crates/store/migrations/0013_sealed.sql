-- What stood here is in settings and sealed now: the program has moved it (registry/sealing.rs).
ALTER TABLE endpoint DROP COLUMN type;
ALTER TABLE endpoint DROP COLUMN server_ca_certificate;
ALTER TABLE endpoint DROP COLUMN headers;
ALTER TABLE endpoint DROP COLUMN credentials;
ALTER TABLE endpoint DROP COLUMN timeout_seconds;
ALTER TABLE endpoint DROP COLUMN secret;
ALTER TABLE endpoint DROP COLUMN previous_secret;
ALTER TABLE endpoint DROP COLUMN previous_secret_until_ms;
