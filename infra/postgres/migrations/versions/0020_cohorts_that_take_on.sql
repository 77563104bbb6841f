-- Only adds: processes of the version before leave it empty, and group what is due themselves.

ALTER TABLE cohort ADD COLUMN takes_until TIMESTAMP WITH TIME ZONE;
