-- Only adds: processes of the version before do not use it. Building it reads the table once under a lock that stops writers
-- (seconds for millions of rows): migrate in a quiet moment.

-- Strategy `all`: what arrived, and failed beside that. No accept writes an entry, nor does the end of what arrives whole,
-- which stays within its page (HOT): `partial` changes at the end of what is partial alone.
CREATE INDEX notification_partial ON notification (tenant, id) WHERE partial;
