-- Only adds: processes of the version before run on beside it, and plain notifications have no entry in any of this.

-- The digest that a notification is collected in: the id of its carrier, which names itself.
ALTER TABLE notification ADD COLUMN digest UUID;

-- What a digest holds, and what is collected at a tenant's. Neither column changes when a notification ends (HOT).
CREATE INDEX notification_digest ON notification (digest, id) WHERE digest IS NOT NULL;

CREATE INDEX notification_collected ON notification (tenant, id) WHERE (digest IS NOT NULL) IS TRUE;

-- Digests that are open, and windows that run after a first that was sent at once (carrier is NULL).
CREATE TABLE digest (
    slot BYTEA PRIMARY KEY,
    tenant TEXT NOT NULL,
    carrier UUID,
    until TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE UNIQUE INDEX digest_carrier ON digest (carrier);

CREATE INDEX digest_age ON digest (until) WHERE carrier IS NULL;

-- What was sent to whom within a window, by hash.
CREATE TABLE dedupe (
    slot BYTEA PRIMARY KEY,
    tenant TEXT NOT NULL,
    notification_id UUID NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE INDEX dedupe_age ON dedupe (until);
