-- Applications, endpoints, filters, tokens. The same text for SQLite and PostgreSQL: times are milliseconds since 1970,
-- truth values are 0 and 1, ids are the text of UUIDs.

-- One row: the number of the last change, and of the last change whose rows of `change` are gone. Every change of the
-- registry updates it first, so changes come one after the other and become visible in the order of their numbers.
CREATE TABLE feed (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    pruned_seq BIGINT NOT NULL
);
INSERT INTO feed (id, seq, pruned_seq) VALUES (1, 0, 0);

-- Endpoints whose meaning to the dispatcher a change has touched.
CREATE TABLE change (
    seq BIGINT NOT NULL,
    endpoint_id TEXT NOT NULL,
    PRIMARY KEY (seq, endpoint_id)
);

CREATE TABLE account (
    id TEXT PRIMARY KEY,
    number TEXT NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);

CREATE TABLE account_user (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    username TEXT NOT NULL,
    email TEXT,
    first_name TEXT,
    last_name TEXT,
    locale TEXT,
    org_id TEXT,
    is_active BIGINT NOT NULL,
    is_org_admin BIGINT NOT NULL,
    is_internal BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    UNIQUE (account_id, username)
);

CREATE TABLE application (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);

CREATE TABLE event_type (
    id TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    title TEXT NOT NULL,
    position BIGINT NOT NULL,
    UNIQUE (application_id, external_id)
);

CREATE TABLE level (
    id TEXT PRIMARY KEY,
    event_type_id TEXT NOT NULL REFERENCES event_type (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    title TEXT NOT NULL,
    position BIGINT NOT NULL,
    UNIQUE (event_type_id, external_id)
);

-- `search_*` are the lower-case forms, made by the program: the databases differ in what they take for a letter.
CREATE TABLE endpoint (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    search_name TEXT NOT NULL,
    search_url TEXT NOT NULL,
    active BIGINT NOT NULL,
    type TEXT NOT NULL,
    server_ca_certificate TEXT,
    retry_policy TEXT NOT NULL,
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_secret_until_ms BIGINT,
    last_delivery_status TEXT,
    last_delivery_ms BIGINT,
    first_failure_ms BIGINT,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    UNIQUE (account_id, name)
);

-- `*_any`: the set was left empty by a person, and means anything. Where it is 0 an empty set means nothing: its members
-- have been removed.
CREATE TABLE filter (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT NOT NULL UNIQUE REFERENCES endpoint (id) ON DELETE CASCADE,
    enabled BIGINT NOT NULL,
    condition TEXT,
    applications_any BIGINT NOT NULL,
    event_types_any BIGINT NOT NULL,
    levels_any BIGINT NOT NULL
);

CREATE TABLE filter_application (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    member_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    PRIMARY KEY (filter_id, member_id)
);
CREATE INDEX filter_application_member ON filter_application (member_id);

CREATE TABLE filter_event_type (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    member_id TEXT NOT NULL REFERENCES event_type (id) ON DELETE CASCADE,
    PRIMARY KEY (filter_id, member_id)
);
CREATE INDEX filter_event_type_member ON filter_event_type (member_id);

CREATE TABLE filter_level (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    member_id TEXT NOT NULL REFERENCES level (id) ON DELETE CASCADE,
    PRIMARY KEY (filter_id, member_id)
);
CREATE INDEX filter_level_member ON filter_level (member_id);

-- Only the hash of a token is kept, and its last characters, to tell tokens apart.
CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    account_id TEXT REFERENCES account (id),
    name TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
