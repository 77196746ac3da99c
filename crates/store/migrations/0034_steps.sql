-- Ranges that no dispatcher has claimed are found from one endpoint, and from one partition, to the next, however many each has.
DROP INDEX owed_range_free;
CREATE INDEX owed_range_owing ON owed_range (log, topic, endpoint_id, from_offset) WHERE claimed_by IS NULL;
CREATE INDEX owed_range_left ON owed_range (log, topic, part, to_offset) WHERE claimed_by IS NULL;
