-- Nodes that run listeners; alive_until_ms is in the time of the database.
CREATE TABLE push_node (
    id TEXT PRIMARY KEY,
    alive_until_ms BIGINT NOT NULL
);

-- Which node hears whose mailbox. A lease is good as long as its node lives; fence grows with each lease.
CREATE TABLE push_lease (
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    login TEXT NOT NULL,
    node TEXT NOT NULL,
    fence BIGINT NOT NULL,
    PRIMARY KEY (context, user_name)
);
CREATE INDEX push_lease_node ON push_lease (node);
