-- Only adds: codes of the version before have none, and their guesses count for their id alone. Without a default, so that
-- nothing is rewritten.

-- Keyed hashes of the user and the addresses that the newest code goes to.
ALTER TABLE otp ADD COLUMN recipients BYTEA[];
