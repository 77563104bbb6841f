-- Only adds: processes of the version before do not use it. Building it takes about 1.6 s for a million open rows, for which
-- writes to `work` wait.

CREATE INDEX work_turn ON work (lane, date_bin('15 minutes', due_at, timestamptz '2000-01-01 00:00:00+00'), tenant)
WHERE cohort IS NULL AND state = 0;
