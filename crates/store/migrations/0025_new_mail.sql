-- Whether a subscription is for new mail, as its wishes say: 1 or 0; -1: nobody has looked yet. Who is heard is read from the index alone.
ALTER TABLE push_subscription ADD COLUMN new_mail BIGINT NOT NULL DEFAULT -1;
CREATE INDEX push_subscription_new_mail ON push_subscription (context, user_name, client, login) WHERE new_mail > 0;
CREATE INDEX push_subscription_not_looked_at ON push_subscription (id) WHERE new_mail < 0;
