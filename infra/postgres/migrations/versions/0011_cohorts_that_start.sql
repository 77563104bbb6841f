-- Only adds: processes of the version before leave it false, and their cohorts count as starting for two seconds.

ALTER TABLE cohort ADD COLUMN begun BOOLEAN DEFAULT false NOT NULL;
