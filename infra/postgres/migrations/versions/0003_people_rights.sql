-- Only adds: processes of the version before run on beside it.
-- suppression is rewritten under its lock for its new column: it is small (a second for half a million rows), and a claim
-- that meets the lock waits that long.

ALTER TABLE suppression ADD COLUMN id UUID DEFAULT gen_random_uuid() NOT NULL;

CREATE UNIQUE INDEX suppression_id ON suppression (tenant, id);

CREATE TABLE suppression_pepper (
    id SMALLINT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (id)
);

-- 244 random bits, from PostgreSQL's strong source.
INSERT INTO suppression_pepper VALUES (1, gen_random_uuid()::text || gen_random_uuid()::text);

CREATE TABLE device (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    person_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    token_hash BYTEA NOT NULL,
    token TEXT NOT NULL,
    keys JSONB DEFAULT '{}' NOT NULL,
    app TEXT DEFAULT '' NOT NULL,
    locale TEXT DEFAULT '' NOT NULL,
    state TEXT DEFAULT 'active' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(tenant, person_id) REFERENCES person (tenant, id) ON DELETE CASCADE
);

CREATE INDEX device_person ON device (tenant, person_id);

CREATE UNIQUE INDEX device_token ON device (tenant, kind, token_hash);

CREATE TABLE erasure (
    tenant TEXT NOT NULL,
    person_id TEXT NOT NULL,
    requested_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    requested_by UUID,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    pass_at TIMESTAMP WITH TIME ZONE,
    cursor UUID,
    counts JSONB DEFAULT '{}' NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (tenant, person_id),
    FOREIGN KEY(tenant, person_id) REFERENCES person (tenant, id) ON DELETE CASCADE
);

CREATE INDEX erasure_due ON erasure (due_at) WHERE finished_at IS NULL;

ALTER TABLE notification ADD COLUMN erased_at TIMESTAMP WITH TIME ZONE;
