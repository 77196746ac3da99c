-- How often the process has written in order to find out whether it can.
ALTER TABLE dispatcher ADD COLUMN probes BIGINT NOT NULL DEFAULT 0;
