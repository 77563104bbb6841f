-- Only adds: processes of the version before do not use it. Building it reads all open rows once, for which writes to `work`
-- wait: 0.2 s for a million.

-- Steps that have tried an account, or found none. Nothing that has not is in it: a first attempt writes no entry.
CREATE INDEX work_tried ON work (channel, notification_id, n) WHERE state = 0 AND tried <> '{}';
