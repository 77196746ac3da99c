-- Who is heard is read from the index alone, without subscriptions that have expired: those stay for a day.
DROP INDEX push_subscription_new_mail;
CREATE INDEX push_subscription_new_mail ON push_subscription (context, user_name, client, login, expires_ms) WHERE new_mail > 0;
-- End of the quiet hours that a push waits for, by which others are gathered with it; 0: for none; -1: an earlier version has written it.
ALTER TABLE push_waiting ADD COLUMN quiet_until_ms BIGINT NOT NULL DEFAULT -1;
-- Whether an attempt at a push has ended without an answer: its service may have it, and the device may show it.
ALTER TABLE push_waiting ADD COLUMN may_be_shown BIGINT NOT NULL DEFAULT 0;
