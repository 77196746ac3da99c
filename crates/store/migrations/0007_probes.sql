-- What processes write to find out whether they can: a row for each, and how often. Not in the table of dispatchers: a write that
-- hangs must not hold the lock on the row by which its process says that it lives.
CREATE TABLE probe (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);
