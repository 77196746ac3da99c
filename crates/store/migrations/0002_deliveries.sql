-- What is owed, what will not be delivered, what was tried. No foreign keys: what is noted after an endpoint is gone must
-- not fail with everything else that is noted with it; what belongs to nobody is dropped when it is due.

-- Dispatchers. One that does not say in time that it lives is dead, and what it has claimed is free.
CREATE TABLE dispatcher (
    id TEXT PRIMARY KEY,
    alive_until_ms BIGINT NOT NULL
);

-- Deliveries that have failed, or were under way when they were noted. claimed_by: the dispatcher that cares for it.
CREATE TABLE owed (
    endpoint_id TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    body TEXT NOT NULL,
    failures BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    claimed_by TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (endpoint_id, notification_id)
);
CREATE INDEX owed_due ON owed (due_ms);

-- Ranges of the log that an endpoint has not got: from_offset is the first that is not done, to_offset is behind the last.
CREATE TABLE owed_range (
    endpoint_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    part BIGINT NOT NULL,
    start_offset BIGINT NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset BIGINT NOT NULL,
    claimed_by TEXT,
    PRIMARY KEY (endpoint_id, topic, part, start_offset)
);

-- is_base64: the body was no text. endpoint_id is missing where a record was no notification.
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT,
    notification_id TEXT NOT NULL,
    body TEXT NOT NULL,
    is_base64 BIGINT NOT NULL,
    reason TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL
);
CREATE INDEX dead_letter_endpoint ON dead_letter (endpoint_id, id);

-- Attempts at one endpoint that were noted together, as JSON: see deliveries/attempts.rs.
CREATE TABLE attempts (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX attempts_endpoint ON attempts (endpoint_id, id);
