-- What of a mailbox transaction was given up is redelivered as that transaction, in its order: where its record stands, the name of what is
-- redelivered of its key, and the transaction. Letters without one are redelivered alone.
ALTER TABLE dead_letter ADD COLUMN order_log TEXT;
ALTER TABLE dead_letter ADD COLUMN order_topic TEXT;
ALTER TABLE dead_letter ADD COLUMN order_part BIGINT;
ALTER TABLE dead_letter ADD COLUMN order_offset BIGINT;
ALTER TABLE dead_letter ADD COLUMN order_key TEXT;
ALTER TABLE dead_letter ADD COLUMN txn TEXT;
CREATE INDEX dead_letter_txn ON dead_letter (txn, endpoint_id);
