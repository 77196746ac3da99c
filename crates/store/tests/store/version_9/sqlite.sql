-- A state.db of schema version 9, as a server wrote it: what is owed after 503, dead letters after 400, ranges of paused endpoints.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE schema_version (version BIGINT NOT NULL);
INSERT INTO schema_version VALUES(9);
CREATE TABLE feed (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    pruned_seq BIGINT NOT NULL
);
INSERT INTO feed VALUES(1,11,0);
CREATE TABLE change (
    seq BIGINT NOT NULL,
    endpoint_id TEXT NOT NULL,
    PRIMARY KEY (seq, endpoint_id)
);
INSERT INTO change VALUES(5,'01a215c2-0edb-7316-a9f1-235746479acb');
INSERT INTO change VALUES(6,'01a215c2-0ee6-700c-bc52-eb948175a2ae');
INSERT INTO change VALUES(7,'01a215c2-0ef1-7259-be45-6ff4374ba1a9');
INSERT INTO change VALUES(9,'01a215c2-0f40-73d0-bd99-b63faaed60c9');
INSERT INTO change VALUES(10,'01a215c2-0f47-708b-8fe6-824554519e20');
INSERT INTO change VALUES(11,'01a215c2-0f52-771d-b270-e0bd55dea606');
CREATE TABLE account (
    id TEXT PRIMARY KEY,
    number TEXT NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);
INSERT INTO account VALUES('01a215c2-0ec2-76fc-9220-481bad7c6ca2','42',1795661369026);
INSERT INTO account VALUES('01a215c2-0f31-7089-a630-675d70387217','o"ne\two',1795661369137);
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
INSERT INTO application VALUES('01a215c2-0e98-724b-b55a-d33fed6115f8','dovecot','Dovecot',1795661368984,1795661368984);
INSERT INTO application VALUES('01a215c2-0ea2-71d7-a2bf-e4d1f8c3dd37','dovecast','dovecast',1795661368994,1795661368994);
CREATE TABLE event_type (
    id TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    title TEXT NOT NULL,
    position BIGINT NOT NULL,
    UNIQUE (application_id, external_id)
);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d34049ee4bd6','01a215c2-0e98-724b-b55a-d33fed6115f8','FlagsClear','FlagsClear',0);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d341deff49dc','01a215c2-0e98-724b-b55a-d33fed6115f8','FlagsSet','FlagsSet',1);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d34248fa09cd','01a215c2-0e98-724b-b55a-d33fed6115f8','MailboxCreate','MailboxCreate',2);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d343095a702d','01a215c2-0e98-724b-b55a-d33fed6115f8','MailboxDelete','MailboxDelete',3);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d3442e8bc887','01a215c2-0e98-724b-b55a-d33fed6115f8','MailboxRename','MailboxRename',4);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d345f850d1d4','01a215c2-0e98-724b-b55a-d33fed6115f8','MailboxSubscribe','MailboxSubscribe',5);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d346b02f35a0','01a215c2-0e98-724b-b55a-d33fed6115f8','MailboxUnsubscribe','MailboxUnsubscribe',6);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d34743685f1d','01a215c2-0e98-724b-b55a-d33fed6115f8','MessageAppend','MessageAppend',7);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d3486b0bdfae','01a215c2-0e98-724b-b55a-d33fed6115f8','MessageExpunge','MessageExpunge',8);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d34914a7283f','01a215c2-0e98-724b-b55a-d33fed6115f8','MessageNew','MessageNew',9);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d34abda6bef5','01a215c2-0e98-724b-b55a-d33fed6115f8','MessageRead','MessageRead',10);
INSERT INTO event_type VALUES('01a215c2-0e98-724b-b55a-d34b61ffd3b8','01a215c2-0e98-724b-b55a-d33fed6115f8','MessageTrash','MessageTrash',11);
INSERT INTO event_type VALUES('01a215c2-0ea3-75bd-b294-335c86ea51b7','01a215c2-0ea2-71d7-a2bf-e4d1f8c3dd37','endpoint.disabled','An endpoint was disabled',0);
CREATE TABLE level (
    id TEXT PRIMARY KEY,
    event_type_id TEXT NOT NULL REFERENCES event_type (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    title TEXT NOT NULL,
    position BIGINT NOT NULL,
    UNIQUE (event_type_id, external_id)
);
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
    updated_ms BIGINT NOT NULL, headers TEXT, credentials TEXT, timeout_seconds BIGINT, paused BIGINT NOT NULL DEFAULT 0, rate_limit BIGINT, retry_delays TEXT, fallback_id TEXT REFERENCES endpoint (id) ON DELETE SET NULL, failing_ms BIGINT NOT NULL DEFAULT 0,
    UNIQUE (account_id, name)
);
INSERT INTO endpoint VALUES('01a215c2-0edb-7316-a9f1-235746479acb','01a215c2-0ec2-76fc-9220-481bad7c6ca2','503','http://user:pass@127.0.0.1:45781/503','503','http://user:pass@127.0.0.1:45781/503',1,'Endpoints::HttpEndpoint',NULL,'default','whsec_neAz9SokJdJ2W45nwUyJ09cyZIS44QTN',NULL,NULL,'failure',1795661369146,1795661369114,1795661369052,1795661369052,'[["X-Team","mail"]]','{"basic":["u","pässword"]}',7,0,50,NULL,NULL,45);
INSERT INTO endpoint VALUES('01a215c2-0ee6-700c-bc52-eb948175a2ae','01a215c2-0ec2-76fc-9220-481bad7c6ca2','400','http://user:pass@127.0.0.1:45781/400','400','http://user:pass@127.0.0.1:45781/400',1,'Endpoints::HttpEndpoint',NULL,'default','whsec_3KZ8w/TgtjqYhLIAc8chLvPfPhdAGwM/',NULL,NULL,'failure',1795661369136,1795661369114,1795661369063,1795661369063,NULL,'{"bearer":"t0ken"}',NULL,0,NULL,'[60,120]',NULL,0);
INSERT INTO endpoint VALUES('01a215c2-0ef1-7259-be45-6ff4374ba1a9','01a215c2-0ec2-76fc-9220-481bad7c6ca2','paused','http://user:pass@127.0.0.1:45781/paused','paused','http://user:pass@127.0.0.1:45781/paused',1,'Endpoints::HttpEndpoint',NULL,'default','whsec_us7Ev0yZ2jXAZ9sX0qdfIUfyxD+2lSR7',NULL,NULL,NULL,NULL,NULL,1795661369074,1795661369074,NULL,NULL,NULL,1,NULL,NULL,NULL,0);
INSERT INTO endpoint VALUES('01a215c2-0f40-73d0-bd99-b63faaed60c9','01a215c2-0f31-7089-a630-675d70387217','503','http://user:pass@127.0.0.1:45781/503','503','http://user:pass@127.0.0.1:45781/503',1,'Endpoints::HttpEndpoint',NULL,'default','whsec_MNu2zc7QcEx7amzGS9P7sP8Uc9mhI5LX',NULL,NULL,'failure',1795661369216,1795661369183,1795661369153,1795661369153,'[["X-Team","mail"]]','{"basic":["u","pässword"]}',7,0,50,NULL,NULL,25);
INSERT INTO endpoint VALUES('01a215c2-0f47-708b-8fe6-824554519e20','01a215c2-0f31-7089-a630-675d70387217','400','http://user:pass@127.0.0.1:45781/400','400','http://user:pass@127.0.0.1:45781/400',1,'Endpoints::HttpEndpoint',NULL,'default','whsec_memWuMvhB9/9WTTs5aEjpPB+2zlhbCbC',NULL,NULL,'failure',1795661369205,1795661369183,1795661369160,1795661369160,NULL,'{"bearer":"t0ken"}',NULL,0,NULL,'[60,120]',NULL,0);
INSERT INTO endpoint VALUES('01a215c2-0f52-771d-b270-e0bd55dea606','01a215c2-0f31-7089-a630-675d70387217','paused','http://user:pass@127.0.0.1:45781/paused','paused','http://user:pass@127.0.0.1:45781/paused',1,'Endpoints::HttpEndpoint',NULL,'default','whsec_f6Mqu7Geg2BRgA4pSSyXu2IAsAYnaC/n',NULL,NULL,NULL,NULL,NULL,1795661369171,1795661369171,NULL,NULL,NULL,1,NULL,NULL,NULL,0);
CREATE TABLE filter (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT NOT NULL UNIQUE REFERENCES endpoint (id) ON DELETE CASCADE,
    enabled BIGINT NOT NULL,
    condition TEXT,
    applications_any BIGINT NOT NULL,
    event_types_any BIGINT NOT NULL,
    levels_any BIGINT NOT NULL
);
INSERT INTO "filter" VALUES('01a215c2-0edd-774b-b215-ab1914c39154','01a215c2-0edb-7316-a9f1-235746479acb',1,NULL,1,1,1);
INSERT INTO "filter" VALUES('01a215c2-0ee9-710a-a3a0-1e4781b28608','01a215c2-0ee6-700c-bc52-eb948175a2ae',1,NULL,1,1,1);
INSERT INTO "filter" VALUES('01a215c2-0ef2-7676-be2b-8888ca75fd74','01a215c2-0ef1-7259-be45-6ff4374ba1a9',1,NULL,1,1,1);
INSERT INTO "filter" VALUES('01a215c2-0f42-70f3-866a-af22f50d54d0','01a215c2-0f40-73d0-bd99-b63faaed60c9',1,NULL,1,1,1);
INSERT INTO "filter" VALUES('01a215c2-0f4a-73c6-92b2-2f40c6ebd77e','01a215c2-0f47-708b-8fe6-824554519e20',1,NULL,1,1,1);
INSERT INTO "filter" VALUES('01a215c2-0f55-735e-9105-e32c7cb29b16','01a215c2-0f52-771d-b270-e0bd55dea606',1,NULL,1,1,1);
CREATE TABLE filter_application (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    member_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    PRIMARY KEY (filter_id, member_id)
);
CREATE TABLE filter_event_type (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    member_id TEXT NOT NULL REFERENCES event_type (id) ON DELETE CASCADE,
    PRIMARY KEY (filter_id, member_id)
);
CREATE TABLE filter_level (
    filter_id TEXT NOT NULL REFERENCES filter (id) ON DELETE CASCADE,
    member_id TEXT NOT NULL REFERENCES level (id) ON DELETE CASCADE,
    PRIMARY KEY (filter_id, member_id)
);
CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    account_id TEXT REFERENCES account (id),
    name TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
INSERT INTO api_token VALUES('01a215c2-0e94-75b1-8ac4-57d3a612de8b','TUHvX8syJpE0/v+pgstSeryXGkxRiNS9US7DQr6p8OA=','admin',NULL,'first start','CQ9o',1795661368980);
INSERT INTO api_token VALUES('01a215c2-0ecf-7774-a7f1-e497eaa820a6','eVNWo66/xqj/4RRjiMi/EmZp0vx4/V7mp5DKcfOEp2U=','account','01a215c2-0ec2-76fc-9220-481bad7c6ca2','t','U0CE',1795661369039);
INSERT INTO api_token VALUES('01a215c2-0f37-7407-bb57-ee0e0eb1444d','FiND8xD9f0/H5QpqoSI9YV3X7qiqvK/V0acrYNSB1os=','account','01a215c2-0f31-7089-a630-675d70387217','t','_7SY',1795661369143);
CREATE TABLE dispatcher (
    id TEXT PRIMARY KEY,
    alive_until_ms BIGINT NOT NULL
);
CREATE TABLE owed (
    endpoint_id TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    body TEXT NOT NULL,
    failures BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    claimed_by TEXT,
    reason TEXT NOT NULL, made_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint_id, notification_id)
);
INSERT INTO owed VALUES('01a215c2-0edb-7316-a9f1-235746479acb','01a215c2-0f08-77f1-ac9e-77be260c5ef6','{"timestamp":"2026-11-26T02:49:29.095Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}',1,1795661374064,NULL,'the endpoint answers 503 Service Unavailable',1795661369136);
INSERT INTO owed VALUES('01a215c2-0edb-7316-a9f1-235746479acb','01a215c2-0f1b-7404-9122-733d85b561cb','{"timestamp":"2026-11-26T02:49:29.114Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}',1,1795661374681,NULL,'the endpoint answers 503 Service Unavailable',1795661369136);
INSERT INTO owed VALUES('01a215c2-0edb-7316-a9f1-235746479acb','01a215c2-0f26-770b-9c5b-02e387954714','{"timestamp":"2026-11-26T02:49:29.126Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}',1,1795661374196,NULL,'the endpoint answers 503 Service Unavailable',1795661369183);
INSERT INTO owed VALUES('01a215c2-0f40-73d0-bd99-b63faaed60c9','01a215c2-0f5b-753f-8e07-25379aa94731','{"timestamp":"2026-11-26T02:49:29.178Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}',1,1795661373933,NULL,'the endpoint answers 503 Service Unavailable',1795661369206);
INSERT INTO owed VALUES('01a215c2-0f40-73d0-bd99-b63faaed60c9','01a215c2-0f5e-754e-b479-bbda43397364','{"timestamp":"2026-11-26T02:49:29.182Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}',1,1795661374256,NULL,'the endpoint answers 503 Service Unavailable',1795661369231);
INSERT INTO owed VALUES('01a215c2-0f40-73d0-bd99-b63faaed60c9','01a215c2-0f63-7260-8d83-e0037a697b99','{"timestamp":"2026-11-26T02:49:29.187Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}',1,1795661374116,NULL,'the endpoint answers 503 Service Unavailable',1795661369231);
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT,
    notification_id TEXT NOT NULL,
    body TEXT NOT NULL,
    is_base64 BIGINT NOT NULL,
    reason TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL
);
INSERT INTO dead_letter VALUES('01a215c2-0f1a-7000-b963-4cef2df60027','01a215c2-0ee6-700c-bc52-eb948175a2ae','01a215c2-0f08-77f1-ac9e-77be260c5ef6','{"timestamp":"2026-11-26T02:49:29.095Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}',0,'the endpoint answers 400 Bad Request',1795661369114,1);
INSERT INTO dead_letter VALUES('01a215c2-0f2c-7001-864d-c30b164bc915','01a215c2-0ee6-700c-bc52-eb948175a2ae','01a215c2-0f1b-7404-9122-733d85b561cb','{"timestamp":"2026-11-26T02:49:29.114Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}',0,'the endpoint answers 400 Bad Request',1795661369132,1);
INSERT INTO dead_letter VALUES('01a215c2-0f30-7002-bf4b-3dc95faa7d19','01a215c2-0ee6-700c-bc52-eb948175a2ae','01a215c2-0f26-770b-9c5b-02e387954714','{"timestamp":"2026-11-26T02:49:29.126Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}',0,'the endpoint answers 400 Bad Request',1795661369136,1);
INSERT INTO dead_letter VALUES('01a215c2-0f5f-7000-af8d-b659356f6a7a','01a215c2-0f47-708b-8fe6-824554519e20','01a215c2-0f5b-753f-8e07-25379aa94731','{"timestamp":"2026-11-26T02:49:29.178Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}',0,'the endpoint answers 400 Bad Request',1795661369183,1);
INSERT INTO dead_letter VALUES('01a215c2-0f63-7001-b3bf-1560030610f5','01a215c2-0f47-708b-8fe6-824554519e20','01a215c2-0f5e-754e-b479-bbda43397364','{"timestamp":"2026-11-26T02:49:29.182Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}',0,'the endpoint answers 400 Bad Request',1795661369187,1);
INSERT INTO dead_letter VALUES('01a215c2-0f75-7002-816e-58d370feb75a','01a215c2-0f47-708b-8fe6-824554519e20','01a215c2-0f63-7260-8d83-e0037a697b99','{"timestamp":"2026-11-26T02:49:29.187Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}',0,'the endpoint answers 400 Bad Request',1795661369205,1);
INSERT INTO dead_letter VALUES('01a215c2-0f8d-7000-aaf2-a87e65cc23cb',NULL,'01a215c2-0f7b-73c1-8ab6-2f03d80f0753','no notification',0,'not a notification: expected ident at line 1 column 2 (topic `hooks.outbox`, partition 6, offset 0)',1795661369229,0);
CREATE TABLE attempts (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    content TEXT NOT NULL
);
INSERT INTO attempts VALUES('01a215c2-0f2b-7000-b420-688be9fd845d','01a215c2-0edb-7316-a9f1-235746479acb',1795661369114,1795661369131,'{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:29 GMT\r\n"],"rows":[["01a215c2-0f08-77f1-ac9e-77be260c5ef6",1795661369114,1,false,503,3282,0],["01a215c2-0f1b-7404-9122-733d85b561cb",1795661369131,1,false,503,3749,0]]}');
INSERT INTO attempts VALUES('01a215c2-0f30-7000-b366-ff52549ad974','01a215c2-0ee6-700c-bc52-eb948175a2ae',1795661369114,1795661369136,'{"said":["HTTP/1.1 400 Bad Request\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:29 GMT\r\n"],"rows":[["01a215c2-0f08-77f1-ac9e-77be260c5ef6",1795661369114,1,false,400,3363,0],["01a215c2-0f1b-7404-9122-733d85b561cb",1795661369132,1,false,400,6070,0],["01a215c2-0f26-770b-9c5b-02e387954714",1795661369136,1,false,400,4973,0]]}');
INSERT INTO attempts VALUES('01a215c2-0f3a-7000-9a35-bdbf373bbdf6','01a215c2-0edb-7316-a9f1-235746479acb',1795661369146,1795661369146,'{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:29 GMT\r\n"],"rows":[["01a215c2-0f26-770b-9c5b-02e387954714",1795661369146,1,false,503,4523,0]]}');
INSERT INTO attempts VALUES('01a215c2-0f5f-7000-93d1-ed320becee82','01a215c2-0f40-73d0-bd99-b63faaed60c9',1795661369183,1795661369183,'{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:29 GMT\r\n"],"rows":[["01a215c2-0f5b-753f-8e07-25379aa94731",1795661369183,1,false,503,1946,0]]}');
INSERT INTO attempts VALUES('01a215c2-0f75-7000-99a9-03dbeb1d0058','01a215c2-0f47-708b-8fe6-824554519e20',1795661369183,1795661369205,'{"said":["HTTP/1.1 400 Bad Request\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:29 GMT\r\n"],"rows":[["01a215c2-0f5b-753f-8e07-25379aa94731",1795661369183,1,false,400,1700,0],["01a215c2-0f5e-754e-b479-bbda43397364",1795661369187,1,false,400,1053,0],["01a215c2-0f63-7260-8d83-e0037a697b99",1795661369205,1,false,400,17134,0]]}');
INSERT INTO attempts VALUES('01a215c2-0f80-7000-a2a1-b5202b8eac49','01a215c2-0f40-73d0-bd99-b63faaed60c9',1795661369206,1795661369216,'{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:29 GMT\r\n"],"rows":[["01a215c2-0f5e-754e-b479-bbda43397364",1795661369206,1,false,503,13986,0],["01a215c2-0f63-7260-8d83-e0037a697b99",1795661369216,1,false,503,4022,0]]}');
CREATE TABLE announcement (
    id TEXT PRIMARY KEY,
    account_number TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    endpoint_name TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_failure_ms BIGINT,
    time_ms BIGINT NOT NULL
);
CREATE TABLE owed_range (
    log TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    part BIGINT NOT NULL,
    start_offset BIGINT NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset BIGINT NOT NULL,
    claimed_by TEXT,
    PRIMARY KEY (log, endpoint_id, topic, part, start_offset)
);
INSERT INTO owed_range VALUES('','01a215c2-0ef1-7259-be45-6ff4374ba1a9','hooks.outbox',4,0,0,3,'01a215c2-0e93-703f-9581-57c6bc429f44');
INSERT INTO owed_range VALUES('','01a215c2-0f52-771d-b270-e0bd55dea606','hooks.outbox',3,0,0,3,'01a215c2-0e93-703f-9581-57c6bc429f44');
CREATE TABLE probe (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);
INSERT INTO probe VALUES('01a215c2-0e93-703f-9581-57c6bc429f44',1);
CREATE TABLE horizon (
    kind TEXT PRIMARY KEY,
    time_ms BIGINT NOT NULL
);
INSERT INTO horizon VALUES('attempts',1795402169000);
INSERT INTO horizon VALUES('dead_letter',1793069369049);
CREATE INDEX filter_application_member ON filter_application (member_id);
CREATE INDEX filter_event_type_member ON filter_event_type (member_id);
CREATE INDEX filter_level_member ON filter_level (member_id);
CREATE INDEX dead_letter_endpoint ON dead_letter (endpoint_id, id);
CREATE INDEX attempts_endpoint ON attempts (endpoint_id, id);
CREATE INDEX endpoint_failing ON endpoint (first_failure_ms) WHERE first_failure_ms IS NOT NULL AND active = 1;
CREATE INDEX endpoint_fallback ON endpoint (fallback_id) WHERE fallback_id IS NOT NULL;
CREATE INDEX owed_due ON owed (due_ms) WHERE claimed_by IS NULL;
CREATE INDEX owed_made ON owed (made_ms) WHERE claimed_by IS NULL;
CREATE INDEX owed_endpoint ON owed (endpoint_id, due_ms) WHERE claimed_by IS NULL;
CREATE INDEX owed_claimed ON owed (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX owed_range_free ON owed_range (log) WHERE claimed_by IS NULL;
CREATE INDEX owed_range_claimed ON owed_range (log, claimed_by) WHERE claimed_by IS NOT NULL;
COMMIT;
