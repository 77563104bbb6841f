-- Only adds: processes of the version before run on beside it.

CREATE TABLE otp (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    app TEXT NOT NULL,
    notification_id UUID NOT NULL,
    sends SMALLINT DEFAULT 1 NOT NULL,
    purpose TEXT NOT NULL,
    locale TEXT NOT NULL,
    length SMALLINT NOT NULL,
    key_id TEXT NOT NULL,
    salt BYTEA NOT NULL,
    code_hash BYTEA NOT NULL,
    client BYTEA,
    attempts SMALLINT DEFAULT 0 NOT NULL,
    life INTERVAL NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    resend_at TIMESTAMP WITH TIME ZONE NOT NULL,
    verified_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
)
 WITH (fillfactor = 80);

CREATE INDEX otp_expires ON otp (expires_at);

CREATE TABLE otp_counter (
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject BYTEA NOT NULL,
    count INTEGER NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (tenant, scope, subject)
)
 WITH (fillfactor = 70);

CREATE INDEX otp_counter_until ON otp_counter (until);

-- Few rows that change with every code of a tenant: vacuum by count.
ALTER TABLE otp_counter SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
