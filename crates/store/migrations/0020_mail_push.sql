-- Mail push: what devices have asked for. wishes is JSON (topics, content, filter, ...); sealed is the address of the device.
-- token_hash: a token belongs to one person at a time; of a webhook, which is no token, person and client are part of it.
CREATE TABLE push_subscription (
    id TEXT PRIMARY KEY,
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    login TEXT NOT NULL,
    client TEXT NOT NULL,
    transport TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    last_four TEXT NOT NULL,
    wishes TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    answer TEXT
);
CREATE UNIQUE INDEX push_subscription_token ON push_subscription (token_hash);
CREATE INDEX push_subscription_person ON push_subscription (context, user_name);
CREATE INDEX push_subscription_key ON push_subscription (substr(sealed, 6, 16), id);
CREATE INDEX push_subscription_expires ON push_subscription (expires_ms);

-- Sessions of persons who have logged in; only hashes are kept.
CREATE TABLE push_session (
    token_hash TEXT PRIMARY KEY,
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    login TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX push_session_expires ON push_session (expires_ms);
CREATE INDEX push_session_person ON push_session (context, user_name);

-- Logins and passwords with which mailboxes are listened to; refused_ms: the mail server has refused them.
CREATE TABLE push_credential (
    id TEXT PRIMARY KEY,
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    sealed TEXT NOT NULL,
    changed_ms BIGINT NOT NULL,
    refused_ms BIGINT
);
CREATE UNIQUE INDEX push_credential_person ON push_credential (context, user_name);
CREATE INDEX push_credential_key ON push_credential (substr(sealed, 6, 16), id);

-- Pushes that no service has accepted yet. One of a subscription and tag replaces the one that waits, and has the next revision then.
-- gathered_until_ms: others may be added to the message until then; 0: the message is of one mail.
CREATE TABLE push_waiting (
    id TEXT PRIMARY KEY,
    subscription_id TEXT NOT NULL REFERENCES push_subscription (id) ON DELETE CASCADE,
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    tag TEXT NOT NULL,
    message TEXT NOT NULL,
    short_message TEXT NOT NULL,
    badge BIGINT,
    gathered_until_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    deadline_ms BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    claimed_until_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX push_waiting_tag ON push_waiting (subscription_id, tag);
CREATE INDEX push_waiting_due ON push_waiting (due_ms);
CREATE INDEX push_waiting_deadline ON push_waiting (deadline_ms);
CREATE INDEX push_waiting_person ON push_waiting (context, user_name, tag);

-- Pushes that their services have accepted within a day: what devices may still show, and how many a person has had within a minute.
CREATE TABLE push_accepted (
    subscription_id TEXT NOT NULL REFERENCES push_subscription (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    accepted_ms BIGINT NOT NULL,
    PRIMARY KEY (subscription_id, tag)
);
CREATE INDEX push_accepted_person ON push_accepted (context, user_name, accepted_ms);
CREATE INDEX push_accepted_time ON push_accepted (accepted_ms);
