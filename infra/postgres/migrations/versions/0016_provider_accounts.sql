-- Only adds: processes of the version before run on beside it. Its workers do not know these accounts: what waits over one
-- is theirs as if the account had been taken away.

CREATE TABLE provider_account (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    settings JSONB NOT NULL DEFAULT '{}',
    sealed BYTEA,
    key_id TEXT,
    place INTEGER NOT NULL DEFAULT 0,
    cost DOUBLE PRECISION NOT NULL DEFAULT 0,
    weight INTEGER NOT NULL DEFAULT 1,
    rate_per_second DOUBLE PRECISION,
    receipt_within INTERVAL,
    paused_at TIMESTAMP WITH TIME ZONE,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX provider_account_name ON provider_account (tenant, name);

-- One row, raised with each change of an account: what processes ask for every moment.
CREATE TABLE provider_change (
    id SMALLINT PRIMARY KEY,
    version BIGINT NOT NULL
);

INSERT INTO provider_change (id, version) VALUES (1, 0);

-- Worker processes and how accounts do in them: written every few seconds, by each process for itself.
CREATE TABLE worker (
    process UUID PRIMARY KEY,
    name TEXT NOT NULL,
    accounts_version BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE account_health (
    account TEXT NOT NULL,
    process UUID NOT NULL,
    circuit TEXT NOT NULL,
    retry_at TIMESTAMP WITH TIME ZONE,
    slow_share DOUBLE PRECISION NOT NULL,
    in_flight INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    succeeded_at TIMESTAMP WITH TIME ZONE,
    failed_at TIMESTAMP WITH TIME ZONE,
    failure TEXT,
    problem TEXT,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (account, process)
) WITH (fillfactor = 50);

CREATE INDEX account_health_process ON account_health (process);
