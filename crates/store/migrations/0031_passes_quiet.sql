-- Whether a push rings in quiet hours, too: what is critical, and what closes a notification. What an earlier version has written and nobody has marked does not.
ALTER TABLE push_waiting ADD COLUMN passes_quiet BIGINT NOT NULL DEFAULT 0;
UPDATE push_waiting SET passes_quiet = 1 WHERE topic = 'mail:close';
