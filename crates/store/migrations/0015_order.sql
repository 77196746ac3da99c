-- Deliveries of one key in order: where the record stands, and the name of its key. due_ms of one that waits for the one before it is the
-- highest number there is. Rows without a key wait for no other.
ALTER TABLE owed ADD COLUMN log TEXT;
ALTER TABLE owed ADD COLUMN topic TEXT;
ALTER TABLE owed ADD COLUMN part BIGINT;
ALTER TABLE owed ADD COLUMN record_offset BIGINT;
ALTER TABLE owed ADD COLUMN order_key TEXT;
CREATE INDEX owed_order ON owed (endpoint_id, order_key, record_offset) WHERE order_key IS NOT NULL;
CREATE INDEX owed_debtor ON owed (log, topic, part, endpoint_id) WHERE order_key IS NOT NULL;
