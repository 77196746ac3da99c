-- What a driver has noted of a delivery for its next attempt: whom it has told already, of several.
ALTER TABLE owed ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN note TEXT NOT NULL DEFAULT '';
