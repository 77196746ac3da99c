-- What is owed is kept as the canonical JSON of the notification, with its account; a driver renders it at each attempt. Until now it was
-- the body that webhooks get, which lacks the account.
ALTER TABLE owed RENAME COLUMN body TO content;
UPDATE owed SET content = '{"notification":' || substr(content, 1, length(content) - 1) || ',"account_id":' ||
    CAST(json_text(COALESCE((SELECT account.number FROM endpoint JOIN account ON account.id = endpoint.account_id
        WHERE endpoint.id = owed.endpoint_id), '')) AS TEXT) || '}}';
-- The content of a dead letter that is of no endpoint is the value of a record.
ALTER TABLE dead_letter RENAME COLUMN body TO content;
UPDATE dead_letter SET content = '{"notification":' || substr(content, 1, length(content) - 1) || ',"account_id":' ||
    CAST(json_text(COALESCE((SELECT account.number FROM endpoint JOIN account ON account.id = endpoint.account_id
        WHERE endpoint.id = dead_letter.endpoint_id), '')) AS TEXT) || '}}' WHERE endpoint_id IS NOT NULL AND is_base64 = 0;
