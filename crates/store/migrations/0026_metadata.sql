-- Persons whose METADATA entry may be set: written before the source `dovecot` sets it, gone when it was taken away.
-- fence is that of the lease it was written with; left_ms: since when the person has neither a session nor a subscription, 0: has one.
CREATE TABLE push_metadata (
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    login TEXT NOT NULL,
    fence BIGINT NOT NULL,
    left_ms BIGINT NOT NULL,
    PRIMARY KEY (context, user_name)
);
