-- Ranges that no dispatcher has claimed are found from one endpoint, and from one partition, to the next, however many each has.
DROP INDEX owed_range_free;
CREATE INDEX owed_range_owing ON owed_range (log, topic, endpoint_id, from_offset) WHERE claimed_by IS NULL;
CREATE INDEX owed_range_left ON owed_range (log, topic, part, to_offset) WHERE claimed_by IS NULL;
-- What an endpoint owes is found by it alone, when it is deleted.
CREATE INDEX owed_range_endpoint ON owed_range (endpoint_id, start_offset);
-- Whether a push was written by a clock that was ahead is read from one end of this.
CREATE INDEX push_waiting_created ON push_waiting (created_ms);
