-- Ranges are places of a log, and nodes may have logs of their own: which one it is.
ALTER TABLE owed_range RENAME TO owed_range_before;
CREATE TABLE owed_range (
    log TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    part BIGINT NOT NULL,
    start_offset BIGINT NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset BIGINT NOT NULL,
    claimed_by TEXT,
    PRIMARY KEY (log, endpoint_id, topic, part, start_offset)
);
INSERT INTO owed_range (log, endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by)
    SELECT '', endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by FROM owed_range_before;
DROP TABLE owed_range_before;
