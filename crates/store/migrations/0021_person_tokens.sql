-- Whom a token of the scope `person` stands for.
ALTER TABLE api_token ADD COLUMN context TEXT;
ALTER TABLE api_token ADD COLUMN user_name TEXT;
ALTER TABLE api_token ADD COLUMN login TEXT;
