-- A dead letter is asked for, redelivered and dropped by its notification, too: without an index all letters of its endpoint were read.
CREATE INDEX dead_letter_notification ON dead_letter (notification_id, endpoint_id);
