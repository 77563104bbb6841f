-- Only adds: processes of the version before leave them as they are, and neither owe nor book.

ALTER TABLE cohort ADD COLUMN behind BOOLEAN NOT NULL DEFAULT false;

ALTER TABLE permit ADD COLUMN owed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE permit ADD COLUMN owed_until TIMESTAMP WITH TIME ZONE;
ALTER TABLE permit ADD COLUMN booked_until TIMESTAMP WITH TIME ZONE;
