-- Only adds: processes of the version before do not use it. Building it reads the table once under a lock that stops writers,
-- accepts too: 0.4 s for a million rows in memory, else as long as reading them takes. Where that is too long it is built ahead
-- on each partition (docs/operations.md, "Start and stop order"), and this statement takes what it finds. Not CONCURRENTLY
-- here: that waits for every statement under way, also for other migrations, which wait for this one.

-- Strategy `all`: what arrived, and failed beside that. No accept writes an entry, nor does the end of what arrives whole,
-- which stays within its page (HOT): `partial` changes at the end of what is partial alone.
CREATE INDEX notification_partial ON notification (tenant, id) WHERE partial;
