-- Endpoints that were deleted, and may have left dead letters, attempts and what they owed. sweep_ms: when those are removed; again later, as
-- what was under way is noted meanwhile.
CREATE TABLE gone_endpoint (
    endpoint_id TEXT PRIMARY KEY,
    sweep_ms BIGINT NOT NULL
);
CREATE INDEX gone_endpoint_sweep ON gone_endpoint (sweep_ms);
