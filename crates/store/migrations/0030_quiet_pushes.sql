-- Who is heard is read from the index alone, without subscriptions that have expired: those stay for a day.
DROP INDEX push_subscription_new_mail;
CREATE INDEX push_subscription_new_mail ON push_subscription (context, user_name, client, login, expires_ms) WHERE new_mail > 0;
