-- Names of the applications that a token is for: with the scope `registration` it registers them, with the scope `send` it sends for them.
-- is_candidate: to which of several tokens an application of before this belongs is not known; the first of them that registers it has it.
CREATE TABLE token_application (
    token_id TEXT NOT NULL REFERENCES api_token (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    is_candidate BIGINT NOT NULL,
    PRIMARY KEY (token_id, name)
);
CREATE INDEX token_application_name ON token_application (name);
INSERT INTO token_application (token_id, name, is_candidate)
    SELECT one.id, application.name,
        CASE WHEN (SELECT COUNT(*) FROM api_token WHERE scope = 'registration') > 1 THEN 1 ELSE 0 END
    FROM api_token AS one CROSS JOIN application
    WHERE one.scope = 'registration' AND application.name NOT IN ('dovecot', 'dovecast', 'BenchmarkApp');

-- Members that a registration, or the removal of an application, has taken out of the sets of filters, by their names: they are put back when
-- they are registered again. event_type and level are empty where the member is an application, level is where it is an event type.
CREATE TABLE filter_lost (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    application TEXT NOT NULL,
    event_type TEXT NOT NULL,
    level TEXT NOT NULL
);
CREATE INDEX filter_lost_filter ON filter_lost (filter_id);
CREATE INDEX filter_lost_member ON filter_lost (application, event_type);

-- When a token ends, if it does, and when it was last used, to about a minute.
ALTER TABLE api_token ADD COLUMN expires_ms BIGINT;
ALTER TABLE api_token ADD COLUMN last_used_ms BIGINT;

-- When an account was closed: nobody acts for it any more, and nothing is delivered. It stays, so that its number is not taken anew.
ALTER TABLE account ADD COLUMN closed_ms BIGINT;
CREATE INDEX api_token_account ON api_token (account_id);
