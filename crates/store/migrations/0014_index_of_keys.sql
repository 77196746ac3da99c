-- What each key has sealed: its id stands in the sealed value (see src/secrets/envelope.rs).
CREATE INDEX endpoint_key ON endpoint (substr(sealed, 6, 16), id);
