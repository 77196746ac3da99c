-- Services that have asked for time, by the queue of their devices, and until when: for all nodes, and through restarts.
CREATE TABLE push_held (
    lane TEXT PRIMARY KEY,
    until_ms BIGINT NOT NULL
);
