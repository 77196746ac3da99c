-- Whose queue pushes of a device are in: scheme, host and port of its service, or the name of the transport; '' for what is older.
ALTER TABLE push_subscription ADD COLUMN lane TEXT NOT NULL DEFAULT '';
-- Pushes of one device go one after the other.
CREATE INDEX push_waiting_order ON push_waiting (subscription_id, due_ms, id);
