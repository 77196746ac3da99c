-- The record that was refused, by its place in a log: of each there is one dead letter, however often it is read.
ALTER TABLE dead_letter ADD COLUMN log TEXT;
ALTER TABLE dead_letter ADD COLUMN topic TEXT;
ALTER TABLE dead_letter ADD COLUMN part BIGINT;
ALTER TABLE dead_letter ADD COLUMN record_offset BIGINT;
-- With its id: a log that was made anew has other records at the same places.
CREATE UNIQUE INDEX dead_letter_record ON dead_letter (log, topic, part, record_offset, notification_id)
    WHERE topic IS NOT NULL;
