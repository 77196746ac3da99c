-- By which source a mailbox is heard where it is leased, and what keeps it from being heard since when.
ALTER TABLE push_lease ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE push_lease ADD COLUMN trouble TEXT NOT NULL DEFAULT '';
ALTER TABLE push_lease ADD COLUMN trouble_ms BIGINT NOT NULL DEFAULT 0;
