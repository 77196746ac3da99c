-- What an endpoint says of its receiver: settings (JSON) is what its driver takes and anybody may see, sealed is what of them is secret,
-- JSON that is sealed (see src/secrets/). url is what is sorted by: without the user and the password that a URL may have.
ALTER TABLE endpoint ADD COLUMN driver TEXT NOT NULL DEFAULT 'webhook';
ALTER TABLE endpoint ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
ALTER TABLE endpoint ADD COLUMN sealed TEXT NOT NULL DEFAULT '';

-- The key with which everything is sealed from now on; and whether text that is sealed now may still be in pages that are not in use.
ALTER TABLE feed ADD COLUMN key_id TEXT;
ALTER TABLE feed ADD COLUMN unclean BIGINT NOT NULL DEFAULT 0;

-- Keys that have ever sealed anything here, by their ids. One that is retired seals nothing any more.
CREATE TABLE secret_key (
    id TEXT PRIMARY KEY,
    first_ms BIGINT NOT NULL,
    retired_ms BIGINT
);

-- The ids of the keys that the process has, separated by spaces.
ALTER TABLE dispatcher ADD COLUMN key_ids TEXT NOT NULL DEFAULT '';
