-- What dovecast itself has to tell an account, until it stands in the log. The id is that of the notification.
CREATE TABLE announcement (
    id TEXT PRIMARY KEY,
    account_number TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    endpoint_name TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_failure_ms BIGINT,
    time_ms BIGINT NOT NULL
);

-- Endpoints that may have failed for too long.
CREATE INDEX endpoint_failing ON endpoint (first_failure_ms) WHERE first_failure_ms IS NOT NULL AND active = 1;
