-- Services that have asked for time, by the queue of their devices, since when and until when: for all nodes, and through restarts.
CREATE TABLE push_held (
    lane TEXT PRIMARY KEY,
    asked_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
