-- How deliveries flow to an endpoint. rate_limit: in a second. retry_delays: seconds, as a JSON array.
ALTER TABLE endpoint ADD COLUMN paused BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN rate_limit BIGINT;
ALTER TABLE endpoint ADD COLUMN retry_delays TEXT;
ALTER TABLE endpoint ADD COLUMN fallback_id TEXT REFERENCES endpoint (id) ON DELETE SET NULL;
CREATE INDEX endpoint_fallback ON endpoint (fallback_id) WHERE fallback_id IS NOT NULL;
