-- How long attempts at the endpoint have been seen to fail since first_failure_ms, measured by clocks that are never set.
ALTER TABLE endpoint ADD COLUMN failing_ms BIGINT NOT NULL DEFAULT 0;

-- Up to which time the past is dropped, by what it is of. Moves on as time passes, not as a clock is set.
CREATE TABLE horizon (
    kind TEXT PRIMARY KEY,
    time_ms BIGINT NOT NULL
);
