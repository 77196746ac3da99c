-- How deliveries flow to an endpoint, as JSON: see registry/flow.rs. The fallback stays a column, as it is a reference.
ALTER TABLE endpoint ADD COLUMN flow TEXT NOT NULL DEFAULT '{}';
UPDATE endpoint SET flow = '{"paused":' || CASE WHEN paused = 1 THEN 'true' ELSE 'false' END
    || ',"rate_limit":' || COALESCE(CAST(rate_limit AS TEXT), 'null')
    || ',"retry_delays":' || COALESCE(retry_delays, 'null') || '}';
ALTER TABLE endpoint DROP COLUMN paused;
ALTER TABLE endpoint DROP COLUMN rate_limit;
ALTER TABLE endpoint DROP COLUMN retry_delays;
