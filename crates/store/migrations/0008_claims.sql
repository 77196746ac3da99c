-- Claims touch what they claim, however much else is owed. made_ms: when due_ms was decided on; where it lies ahead the clock was
-- set back since, and the delivery is due.
ALTER TABLE owed ADD COLUMN made_ms BIGINT NOT NULL DEFAULT 0;
DROP INDEX owed_due;
CREATE INDEX owed_due ON owed (due_ms) WHERE claimed_by IS NULL;
CREATE INDEX owed_made ON owed (made_ms) WHERE claimed_by IS NULL;
CREATE INDEX owed_endpoint ON owed (endpoint_id, due_ms) WHERE claimed_by IS NULL;
CREATE INDEX owed_claimed ON owed (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX owed_range_free ON owed_range (log) WHERE claimed_by IS NULL;
CREATE INDEX owed_range_claimed ON owed_range (log, claimed_by) WHERE claimed_by IS NOT NULL;
