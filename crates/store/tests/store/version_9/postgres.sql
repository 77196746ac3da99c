-- A database of schema version 9, as a server wrote it: what is owed after 503, dead letters after 400, ranges of paused endpoints.
CREATE TABLE public.account (
    id text NOT NULL,
    number text NOT NULL,
    created_ms bigint NOT NULL
);
CREATE TABLE public.account_user (
    id text NOT NULL,
    account_id text NOT NULL,
    username text NOT NULL,
    email text,
    first_name text,
    last_name text,
    locale text,
    org_id text,
    is_active bigint NOT NULL,
    is_org_admin bigint NOT NULL,
    is_internal bigint NOT NULL,
    created_ms bigint NOT NULL
);
CREATE TABLE public.announcement (
    id text NOT NULL,
    account_number text NOT NULL,
    endpoint_id text NOT NULL,
    endpoint_name text NOT NULL,
    reason text NOT NULL,
    first_failure_ms bigint,
    time_ms bigint NOT NULL
);
CREATE TABLE public.api_token (
    id text NOT NULL,
    hash text NOT NULL,
    scope text NOT NULL,
    account_id text,
    name text NOT NULL,
    last_four text NOT NULL,
    created_ms bigint NOT NULL
);
CREATE TABLE public.application (
    id text NOT NULL,
    name text NOT NULL,
    title text NOT NULL,
    created_ms bigint NOT NULL,
    updated_ms bigint NOT NULL
);
CREATE TABLE public.attempts (
    id text NOT NULL,
    endpoint_id text NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    content text NOT NULL
);
CREATE TABLE public.change (
    seq bigint NOT NULL,
    endpoint_id text NOT NULL
);
CREATE TABLE public.dead_letter (
    id text NOT NULL,
    endpoint_id text,
    notification_id text NOT NULL,
    body text NOT NULL,
    is_base64 bigint NOT NULL,
    reason text NOT NULL,
    time_ms bigint NOT NULL,
    attempts bigint NOT NULL
);
CREATE TABLE public.dispatcher (
    id text NOT NULL,
    alive_until_ms bigint NOT NULL
);
CREATE TABLE public.endpoint (
    id text NOT NULL,
    account_id text NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    search_name text NOT NULL,
    search_url text NOT NULL,
    active bigint NOT NULL,
    type text NOT NULL,
    server_ca_certificate text,
    retry_policy text NOT NULL,
    secret text NOT NULL,
    previous_secret text,
    previous_secret_until_ms bigint,
    last_delivery_status text,
    last_delivery_ms bigint,
    first_failure_ms bigint,
    created_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    headers text,
    credentials text,
    timeout_seconds bigint,
    paused bigint DEFAULT 0 NOT NULL,
    rate_limit bigint,
    retry_delays text,
    fallback_id text,
    failing_ms bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.event_type (
    id text NOT NULL,
    application_id text NOT NULL,
    external_id text NOT NULL,
    title text NOT NULL,
    "position" bigint NOT NULL
);
CREATE TABLE public.feed (
    id bigint NOT NULL,
    seq bigint NOT NULL,
    pruned_seq bigint NOT NULL,
    CONSTRAINT feed_id_check CHECK ((id = 1))
);
CREATE TABLE public.filter (
    id text NOT NULL,
    endpoint_id text NOT NULL,
    enabled bigint NOT NULL,
    condition text,
    applications_any bigint NOT NULL,
    event_types_any bigint NOT NULL,
    levels_any bigint NOT NULL
);
CREATE TABLE public.filter_application (
    filter_id text NOT NULL,
    member_id text NOT NULL
);
CREATE TABLE public.filter_event_type (
    filter_id text NOT NULL,
    member_id text NOT NULL
);
CREATE TABLE public.filter_level (
    filter_id text NOT NULL,
    member_id text NOT NULL
);
CREATE TABLE public.horizon (
    kind text NOT NULL,
    time_ms bigint NOT NULL
);
CREATE TABLE public.level (
    id text NOT NULL,
    event_type_id text NOT NULL,
    external_id text NOT NULL,
    title text NOT NULL,
    "position" bigint NOT NULL
);
CREATE TABLE public.owed (
    endpoint_id text NOT NULL,
    notification_id text NOT NULL,
    body text NOT NULL,
    failures bigint NOT NULL,
    due_ms bigint NOT NULL,
    claimed_by text,
    reason text NOT NULL,
    made_ms bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.owed_range (
    log text NOT NULL,
    endpoint_id text NOT NULL,
    topic text NOT NULL,
    part bigint NOT NULL,
    start_offset bigint NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    claimed_by text
);
CREATE TABLE public.probe (
    id text NOT NULL,
    number bigint NOT NULL
);
CREATE TABLE public.schema_version (
    version bigint NOT NULL
);
INSERT INTO public.account VALUES ('01a215c2-5bbc-7492-9dcb-9b573df2f300', '42', 1795661388732);
INSERT INTO public.account VALUES ('01a215c2-5c87-7206-8897-7300b369d769', 'o"ne\two', 1795661388935);
INSERT INTO public.api_token VALUES ('01a215c2-5aec-747c-8f7d-70e19c05f357', 'GqGgZ7I6KqrZ50WIA7RM5ct2isQ+PHMX8Q1XU8VNC3o=', 'admin', NULL, 'first start', 'TC6M', 1795661388524);
INSERT INTO public.api_token VALUES ('01a215c2-5bcb-7615-a6f9-850739f3319e', 'mO7zuTIHq3MMMnjlku0GMBrDpIWqa25lJCXdHdVn7cA=', 'account', '01a215c2-5bbc-7492-9dcb-9b573df2f300', 't', 'ADmc', 1795661388747);
INSERT INTO public.api_token VALUES ('01a215c2-5c8f-77eb-93b6-bf9631c573c4', 'esCZdAP2cJXRfFcotAeu8kxkm1cEAYUAE2Fb2Qp8HN4=', 'account', '01a215c2-5c87-7206-8897-7300b369d769', 't', 'AeU4', 1795661388943);
INSERT INTO public.application VALUES ('01a215c2-5af7-7344-8d0a-84250c50bf97', 'dovecot', 'Dovecot', 1795661388535, 1795661388535);
INSERT INTO public.application VALUES ('01a215c2-5b1c-7453-8d7b-f4a68dc64bc4', 'dovecast', 'dovecast', 1795661388572, 1795661388572);
INSERT INTO public.attempts VALUES ('01a215c2-5c7b-7000-b365-177954dfe3ee', '01a215c2-5be7-7240-bb72-fcdc9a492be8', 1795661388911, 1795661388923, '{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:48 GMT\r\n"],"rows":[["01a215c2-5c5b-747e-bd02-534b217c143a",1795661388911,1,false,503,3592,0],["01a215c2-5c6c-723b-a3a4-6c2ed07fcf14",1795661388923,1,false,503,1295,0]]}');
INSERT INTO public.attempts VALUES ('01a215c2-5c76-7000-b344-8e77554aa10c', '01a215c2-5c08-70fb-bb88-5a793c2b6843', 1795661388910, 1795661388918, '{"said":["HTTP/1.1 400 Bad Request\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:48 GMT\r\n"],"rows":[["01a215c2-5c5b-747e-bd02-534b217c143a",1795661388910,1,false,400,1677,0],["01a215c2-5c6c-723b-a3a4-6c2ed07fcf14",1795661388913,1,false,400,813,0],["01a215c2-5c6f-7588-9d38-8b4b1adca7f7",1795661388918,1,false,400,2294,0]]}');
INSERT INTO public.attempts VALUES ('01a215c2-5c8c-7000-bfb8-cea8078cd5c9', '01a215c2-5be7-7240-bb72-fcdc9a492be8', 1795661388940, 1795661388940, '{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:48 GMT\r\n"],"rows":[["01a215c2-5c6f-7588-9d38-8b4b1adca7f7",1795661388940,1,false,503,2037,0]]}');
INSERT INTO public.attempts VALUES ('01a215c2-5d1a-7000-b4f7-9a633f3d5d16', '01a215c2-5ca4-719b-88e4-ca5a97930249', 1795661389078, 1795661389082, '{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:49 GMT\r\n"],"rows":[["01a215c2-5d04-702e-8b77-c1b98c5560f9",1795661389078,1,false,503,7557,0],["01a215c2-5d14-71b8-b8bb-6a452865dacf",1795661389082,1,false,503,827,0]]}');
INSERT INTO public.attempts VALUES ('01a215c2-5d1c-7000-b958-6f8c6ac9de73', '01a215c2-5cba-76ba-95e4-880edf0fb1cc', 1795661389077, 1795661389084, '{"said":["HTTP/1.1 400 Bad Request\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:49 GMT\r\n"],"rows":[["01a215c2-5d04-702e-8b77-c1b98c5560f9",1795661389077,1,false,400,4269,0],["01a215c2-5d14-71b8-b8bb-6a452865dacf",1795661389081,1,false,400,2219,0],["01a215c2-5d19-74d1-adb0-e6daf25d0cfd",1795661389084,1,false,400,1506,0]]}');
INSERT INTO public.attempts VALUES ('01a215c2-5d33-7000-93d2-c09c9705c096', '01a215c2-5ca4-719b-88e4-ca5a97930249', 1795661389107, 1795661389107, '{"said":["HTTP/1.1 503 Service Unavailable\r\nserver: BaseHTTP/0.6 Python/3.11.7\r\ndate: Thu, 26 Nov 2026 02:49:49 GMT\r\n"],"rows":[["01a215c2-5d19-74d1-adb0-e6daf25d0cfd",1795661389107,1,false,503,5576,0]]}');
INSERT INTO public.change VALUES (5, '01a215c2-5be7-7240-bb72-fcdc9a492be8');
INSERT INTO public.change VALUES (6, '01a215c2-5c08-70fb-bb88-5a793c2b6843');
INSERT INTO public.change VALUES (7, '01a215c2-5c38-74c0-9b96-d322c6d88a85');
INSERT INTO public.change VALUES (9, '01a215c2-5ca4-719b-88e4-ca5a97930249');
INSERT INTO public.change VALUES (10, '01a215c2-5cba-76ba-95e4-880edf0fb1cc');
INSERT INTO public.change VALUES (11, '01a215c2-5ce6-771a-bbbc-f11aa5bc52dd');
INSERT INTO public.dead_letter VALUES ('01a215c2-5c6e-7000-8030-39d78d0cf30e', '01a215c2-5c08-70fb-bb88-5a793c2b6843', '01a215c2-5c5b-747e-bd02-534b217c143a', '{"timestamp":"2026-11-26T02:49:48.891Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}', 0, 'the endpoint answers 400 Bad Request', 1795661388910, 1);
INSERT INTO public.dead_letter VALUES ('01a215c2-5c71-7001-9630-d3b45ae9f7fd', '01a215c2-5c08-70fb-bb88-5a793c2b6843', '01a215c2-5c6c-723b-a3a4-6c2ed07fcf14', '{"timestamp":"2026-11-26T02:49:48.907Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}', 0, 'the endpoint answers 400 Bad Request', 1795661388913, 1);
INSERT INTO public.dead_letter VALUES ('01a215c2-5c76-7002-9ebe-bb06f7116cce', '01a215c2-5c08-70fb-bb88-5a793c2b6843', '01a215c2-5c6f-7588-9d38-8b4b1adca7f7', '{"timestamp":"2026-11-26T02:49:48.911Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}', 0, 'the endpoint answers 400 Bad Request', 1795661388918, 1);
INSERT INTO public.dead_letter VALUES ('01a215c2-5d15-7000-9523-11cc96639c46', '01a215c2-5cba-76ba-95e4-880edf0fb1cc', '01a215c2-5d04-702e-8b77-c1b98c5560f9', '{"timestamp":"2026-11-26T02:49:49.060Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}', 0, 'the endpoint answers 400 Bad Request', 1795661389077, 1);
INSERT INTO public.dead_letter VALUES ('01a215c2-5d19-7001-8f5f-1fd9233f5439', '01a215c2-5cba-76ba-95e4-880edf0fb1cc', '01a215c2-5d14-71b8-b8bb-6a452865dacf', '{"timestamp":"2026-11-26T02:49:49.076Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}', 0, 'the endpoint answers 400 Bad Request', 1795661389081, 1);
INSERT INTO public.dead_letter VALUES ('01a215c2-5d1c-7002-b80f-75bfea326f35', '01a215c2-5cba-76ba-95e4-880edf0fb1cc', '01a215c2-5d19-74d1-adb0-e6daf25d0cfd', '{"timestamp":"2026-11-26T02:49:49.081Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}', 0, 'the endpoint answers 400 Bad Request', 1795661389084, 1);
INSERT INTO public.dead_letter VALUES ('01a215c2-5d33-7000-9fad-fe9c97472bf9', NULL, '01a215c2-5d27-72ba-882a-21f05319fe0f', 'no notification', 0, 'not a notification: expected ident at line 1 column 2 (topic `hooks.outbox`, partition 7, offset 0)', 1795661389107, 0);
INSERT INTO public.endpoint VALUES ('01a215c2-5cba-76ba-95e4-880edf0fb1cc', '01a215c2-5c87-7206-8897-7300b369d769', '400', 'http://user:pass@127.0.0.1:43725/400', '400', 'http://user:pass@127.0.0.1:43725/400', 1, 'Endpoints::HttpEndpoint', NULL, 'default', 'whsec_p/So64x867qDB+VLBJdOr1VsL12V9ZcW', NULL, NULL, 'failure', 1795661389084, 1795661389077, 1795661388988, 1795661388988, NULL, '{"bearer":"t0ken"}', NULL, 0, NULL, '[60,120]', NULL, 0);
INSERT INTO public.endpoint VALUES ('01a215c2-5ca4-719b-88e4-ca5a97930249', '01a215c2-5c87-7206-8897-7300b369d769', '503', 'http://user:pass@127.0.0.1:43725/503', '503', 'http://user:pass@127.0.0.1:43725/503', 1, 'Endpoints::HttpEndpoint', NULL, 'default', 'whsec_/v5XYELERjE60p7I/tZyebBYJ/8ZL755', NULL, NULL, 'failure', 1795661389107, 1795661389078, 1795661388965, 1795661388965, '[["X-Team","mail"]]', '{"basic":["u","pässword"]}', 7, 0, 50, NULL, NULL, 23);
INSERT INTO public.endpoint VALUES ('01a215c2-5c38-74c0-9b96-d322c6d88a85', '01a215c2-5bbc-7492-9dcb-9b573df2f300', 'paused', 'http://user:pass@127.0.0.1:43725/paused', 'paused', 'http://user:pass@127.0.0.1:43725/paused', 1, 'Endpoints::HttpEndpoint', NULL, 'default', 'whsec_+pc0e5gg3CUVZBiFf+2H0kjXMGCvOosg', NULL, NULL, NULL, NULL, NULL, 1795661388858, 1795661388858, NULL, NULL, NULL, 1, NULL, NULL, NULL, 0);
INSERT INTO public.endpoint VALUES ('01a215c2-5c08-70fb-bb88-5a793c2b6843', '01a215c2-5bbc-7492-9dcb-9b573df2f300', '400', 'http://user:pass@127.0.0.1:43725/400', '400', 'http://user:pass@127.0.0.1:43725/400', 1, 'Endpoints::HttpEndpoint', NULL, 'default', 'whsec_qxbYhMQzsc1dvYQgTPYnFmAyjRaY5GVc', NULL, NULL, 'failure', 1795661388918, 1795661388910, 1795661388810, 1795661388810, NULL, '{"bearer":"t0ken"}', NULL, 0, NULL, '[60,120]', NULL, 0);
INSERT INTO public.endpoint VALUES ('01a215c2-5be7-7240-bb72-fcdc9a492be8', '01a215c2-5bbc-7492-9dcb-9b573df2f300', '503', 'http://user:pass@127.0.0.1:43725/503', '503', 'http://user:pass@127.0.0.1:43725/503', 1, 'Endpoints::HttpEndpoint', NULL, 'default', 'whsec_9epIzdturjqnV4tKoqpxpVnxDO81g/NT', NULL, NULL, 'failure', 1795661388940, 1795661388911, 1795661388776, 1795661388776, '[["X-Team","mail"]]', '{"basic":["u","pässword"]}', 7, 0, 50, NULL, NULL, 27);
INSERT INTO public.endpoint VALUES ('01a215c2-5ce6-771a-bbbc-f11aa5bc52dd', '01a215c2-5c87-7206-8897-7300b369d769', 'paused', 'http://user:pass@127.0.0.1:43725/paused', 'paused', 'http://user:pass@127.0.0.1:43725/paused', 1, 'Endpoints::HttpEndpoint', NULL, 'default', 'whsec_9bZyP8Q/7lKUzXG4snjgHzhpDRCsFWpu', NULL, NULL, NULL, NULL, NULL, 1795661389031, 1795661389031, NULL, NULL, NULL, 1, NULL, NULL, NULL, 0);
INSERT INTO public.event_type VALUES ('01a215c2-5af8-723c-a2ee-1d5e0cf474dd', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'FlagsClear', 'FlagsClear', 0);
INSERT INTO public.event_type VALUES ('01a215c2-5af9-751e-8b52-825a075dddce', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'FlagsSet', 'FlagsSet', 1);
INSERT INTO public.event_type VALUES ('01a215c2-5af9-751e-8b52-825b9f781cd2', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MailboxCreate', 'MailboxCreate', 2);
INSERT INTO public.event_type VALUES ('01a215c2-5af9-751e-8b52-825c6c640506', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MailboxDelete', 'MailboxDelete', 3);
INSERT INTO public.event_type VALUES ('01a215c2-5af9-751e-8b52-825de7434fda', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MailboxRename', 'MailboxRename', 4);
INSERT INTO public.event_type VALUES ('01a215c2-5afa-7443-bdb0-cae50c2ae5eb', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MailboxSubscribe', 'MailboxSubscribe', 5);
INSERT INTO public.event_type VALUES ('01a215c2-5afa-7443-bdb0-cae68180bed2', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MailboxUnsubscribe', 'MailboxUnsubscribe', 6);
INSERT INTO public.event_type VALUES ('01a215c2-5afa-7443-bdb0-cae7d30128b8', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MessageAppend', 'MessageAppend', 7);
INSERT INTO public.event_type VALUES ('01a215c2-5afa-7443-bdb0-cae8b35d59b8', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MessageExpunge', 'MessageExpunge', 8);
INSERT INTO public.event_type VALUES ('01a215c2-5afb-72fa-bd08-b5e3a699c6f3', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MessageNew', 'MessageNew', 9);
INSERT INTO public.event_type VALUES ('01a215c2-5afb-72fa-bd08-b5e4fa5c5448', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MessageRead', 'MessageRead', 10);
INSERT INTO public.event_type VALUES ('01a215c2-5afb-72fa-bd08-b5e55c26e281', '01a215c2-5af7-7344-8d0a-84250c50bf97', 'MessageTrash', 'MessageTrash', 11);
INSERT INTO public.event_type VALUES ('01a215c2-5b1c-7453-8d7b-f4a7022a3276', '01a215c2-5b1c-7453-8d7b-f4a68dc64bc4', 'endpoint.disabled', 'An endpoint was disabled', 0);
INSERT INTO public.feed VALUES (1, 11, 0);
INSERT INTO public.filter VALUES ('01a215c2-5bf1-7648-ab3c-a5ea04191493', '01a215c2-5be7-7240-bb72-fcdc9a492be8', 1, NULL, 1, 1, 1);
INSERT INTO public.filter VALUES ('01a215c2-5c0c-73e2-a5ab-45560b8944c7', '01a215c2-5c08-70fb-bb88-5a793c2b6843', 1, NULL, 1, 1, 1);
INSERT INTO public.filter VALUES ('01a215c2-5c3d-74df-af64-42dbcd7b12cd', '01a215c2-5c38-74c0-9b96-d322c6d88a85', 1, NULL, 1, 1, 1);
INSERT INTO public.filter VALUES ('01a215c2-5ca7-704c-a0da-ab5f45514132', '01a215c2-5ca4-719b-88e4-ca5a97930249', 1, NULL, 1, 1, 1);
INSERT INTO public.filter VALUES ('01a215c2-5cbf-70a9-82c6-3aa75d5ac5a0', '01a215c2-5cba-76ba-95e4-880edf0fb1cc', 1, NULL, 1, 1, 1);
INSERT INTO public.filter VALUES ('01a215c2-5ce8-7072-908c-297f707bf184', '01a215c2-5ce6-771a-bbbc-f11aa5bc52dd', 1, NULL, 1, 1, 1);
INSERT INTO public.horizon VALUES ('attempts', 1795402188656);
INSERT INTO public.horizon VALUES ('dead_letter', 1793069388666);
INSERT INTO public.owed VALUES ('01a215c2-5be7-7240-bb72-fcdc9a492be8', '01a215c2-5c5b-747e-bd02-534b217c143a', '{"timestamp":"2026-11-26T02:49:48.891Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}', 1, 1795661394561, NULL, 'the endpoint answers 503 Service Unavailable', 1795661388935);
INSERT INTO public.owed VALUES ('01a215c2-5be7-7240-bb72-fcdc9a492be8', '01a215c2-5c6c-723b-a3a4-6c2ed07fcf14', '{"timestamp":"2026-11-26T02:49:48.907Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}', 1, 1795661394223, NULL, 'the endpoint answers 503 Service Unavailable', 1795661388935);
INSERT INTO public.owed VALUES ('01a215c2-5be7-7240-bb72-fcdc9a492be8', '01a215c2-5c6f-7588-9d38-8b4b1adca7f7', '{"timestamp":"2026-11-26T02:49:48.911Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}', 1, 1795661393190, NULL, 'the endpoint answers 503 Service Unavailable', 1795661388965);
INSERT INTO public.owed VALUES ('01a215c2-5ca4-719b-88e4-ca5a97930249', '01a215c2-5d04-702e-8b77-c1b98c5560f9', '{"timestamp":"2026-11-26T02:49:49.060Z","application":"a","event_type":"e\"ä","level":"l","message":{"n": 0, "text": "\u00e4\\ \u0001", "f": 1.5}}', 1, 1795661393328, NULL, 'the endpoint answers 503 Service Unavailable', 1795661389100);
INSERT INTO public.owed VALUES ('01a215c2-5ca4-719b-88e4-ca5a97930249', '01a215c2-5d14-71b8-b8bb-6a452865dacf', '{"timestamp":"2026-11-26T02:49:49.076Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 1, "text": "\u00e4\\ \u0001", "f": 1.5}}', 1, 1795661393882, NULL, 'the endpoint answers 503 Service Unavailable', 1795661389100);
INSERT INTO public.owed VALUES ('01a215c2-5ca4-719b-88e4-ca5a97930249', '01a215c2-5d19-74d1-adb0-e6daf25d0cfd', '{"timestamp":"2026-11-26T02:49:49.081Z","application":"a","event_type":"e\"ä","level":null,"message":{"n": 2, "text": "\u00e4\\ \u0001", "f": 1.5}}', 1, 1795661394257, NULL, 'the endpoint answers 503 Service Unavailable', 1795661389126);
INSERT INTO public.owed_range VALUES ('d7fd074a59f9f07c', '01a215c2-5c38-74c0-9b96-d322c6d88a85', 'hooks.outbox', 4, 0, 0, 3, '01a215c2-5a91-766a-8b1e-3f4ccf2e5e74');
INSERT INTO public.owed_range VALUES ('d7fd074a59f9f07c', '01a215c2-5ce6-771a-bbbc-f11aa5bc52dd', 'hooks.outbox', 3, 0, 0, 3, '01a215c2-5a91-766a-8b1e-3f4ccf2e5e74');
INSERT INTO public.probe VALUES ('01a215c2-5a91-766a-8b1e-3f4ccf2e5e74', 1);
INSERT INTO public.schema_version VALUES (9);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_number_key UNIQUE (number);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.account_user
    ADD CONSTRAINT account_user_account_id_username_key UNIQUE (account_id, username);
ALTER TABLE ONLY public.account_user
    ADD CONSTRAINT account_user_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.announcement
    ADD CONSTRAINT announcement_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.api_token
    ADD CONSTRAINT api_token_hash_key UNIQUE (hash);
ALTER TABLE ONLY public.api_token
    ADD CONSTRAINT api_token_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.application
    ADD CONSTRAINT application_name_key UNIQUE (name);
ALTER TABLE ONLY public.application
    ADD CONSTRAINT application_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.change
    ADD CONSTRAINT change_pkey PRIMARY KEY (seq, endpoint_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.dispatcher
    ADD CONSTRAINT dispatcher_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.endpoint
    ADD CONSTRAINT endpoint_account_id_name_key UNIQUE (account_id, name);
ALTER TABLE ONLY public.endpoint
    ADD CONSTRAINT endpoint_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.event_type
    ADD CONSTRAINT event_type_application_id_external_id_key UNIQUE (application_id, external_id);
ALTER TABLE ONLY public.event_type
    ADD CONSTRAINT event_type_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.feed
    ADD CONSTRAINT feed_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.filter_application
    ADD CONSTRAINT filter_application_pkey PRIMARY KEY (filter_id, member_id);
ALTER TABLE ONLY public.filter
    ADD CONSTRAINT filter_endpoint_id_key UNIQUE (endpoint_id);
ALTER TABLE ONLY public.filter_event_type
    ADD CONSTRAINT filter_event_type_pkey PRIMARY KEY (filter_id, member_id);
ALTER TABLE ONLY public.filter_level
    ADD CONSTRAINT filter_level_pkey PRIMARY KEY (filter_id, member_id);
ALTER TABLE ONLY public.filter
    ADD CONSTRAINT filter_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.horizon
    ADD CONSTRAINT horizon_pkey PRIMARY KEY (kind);
ALTER TABLE ONLY public.level
    ADD CONSTRAINT level_event_type_id_external_id_key UNIQUE (event_type_id, external_id);
ALTER TABLE ONLY public.level
    ADD CONSTRAINT level_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.owed
    ADD CONSTRAINT owed_pkey PRIMARY KEY (endpoint_id, notification_id);
ALTER TABLE ONLY public.owed_range
    ADD CONSTRAINT owed_range_pkey1 PRIMARY KEY (log, endpoint_id, topic, part, start_offset);
ALTER TABLE ONLY public.probe
    ADD CONSTRAINT probe_pkey PRIMARY KEY (id);
CREATE INDEX attempts_endpoint ON public.attempts USING btree (endpoint_id, id);
CREATE INDEX dead_letter_endpoint ON public.dead_letter USING btree (endpoint_id, id);
CREATE INDEX endpoint_failing ON public.endpoint USING btree (first_failure_ms) WHERE ((first_failure_ms IS NOT NULL) AND (active = 1));
CREATE INDEX endpoint_fallback ON public.endpoint USING btree (fallback_id) WHERE (fallback_id IS NOT NULL);
CREATE INDEX filter_application_member ON public.filter_application USING btree (member_id);
CREATE INDEX filter_event_type_member ON public.filter_event_type USING btree (member_id);
CREATE INDEX filter_level_member ON public.filter_level USING btree (member_id);
CREATE INDEX owed_claimed ON public.owed USING btree (claimed_by) WHERE (claimed_by IS NOT NULL);
CREATE INDEX owed_due ON public.owed USING btree (due_ms) WHERE (claimed_by IS NULL);
CREATE INDEX owed_endpoint ON public.owed USING btree (endpoint_id, due_ms) WHERE (claimed_by IS NULL);
CREATE INDEX owed_made ON public.owed USING btree (made_ms) WHERE (claimed_by IS NULL);
CREATE INDEX owed_range_claimed ON public.owed_range USING btree (log, claimed_by) WHERE (claimed_by IS NOT NULL);
CREATE INDEX owed_range_free ON public.owed_range USING btree (log) WHERE (claimed_by IS NULL);
ALTER TABLE ONLY public.account_user
    ADD CONSTRAINT account_user_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);
ALTER TABLE ONLY public.api_token
    ADD CONSTRAINT api_token_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);
ALTER TABLE ONLY public.endpoint
    ADD CONSTRAINT endpoint_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);
ALTER TABLE ONLY public.endpoint
    ADD CONSTRAINT endpoint_fallback_id_fkey FOREIGN KEY (fallback_id) REFERENCES public.endpoint(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.event_type
    ADD CONSTRAINT event_type_application_id_fkey FOREIGN KEY (application_id) REFERENCES public.application(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter_application
    ADD CONSTRAINT filter_application_filter_id_fkey FOREIGN KEY (filter_id) REFERENCES public.filter(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter_application
    ADD CONSTRAINT filter_application_member_id_fkey FOREIGN KEY (member_id) REFERENCES public.application(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter
    ADD CONSTRAINT filter_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES public.endpoint(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter_event_type
    ADD CONSTRAINT filter_event_type_filter_id_fkey FOREIGN KEY (filter_id) REFERENCES public.filter(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter_event_type
    ADD CONSTRAINT filter_event_type_member_id_fkey FOREIGN KEY (member_id) REFERENCES public.event_type(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter_level
    ADD CONSTRAINT filter_level_filter_id_fkey FOREIGN KEY (filter_id) REFERENCES public.filter(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.filter_level
    ADD CONSTRAINT filter_level_member_id_fkey FOREIGN KEY (member_id) REFERENCES public.level(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.level
    ADD CONSTRAINT level_event_type_id_fkey FOREIGN KEY (event_type_id) REFERENCES public.event_type(id) ON DELETE CASCADE;
