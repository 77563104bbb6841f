-- Only adds: processes of the version before run on beside it.

CREATE TABLE preference (
    tenant TEXT NOT NULL,
    person_id TEXT NOT NULL,
    choices JSONB NOT NULL,
    app TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, person_id),
    FOREIGN KEY(tenant, person_id) REFERENCES person (tenant, id) ON DELETE CASCADE
);

CREATE TABLE cap_use (
    tenant TEXT NOT NULL,
    person_id TEXT NOT NULL,
    notification_id UUID NOT NULL,
    n SMALLINT NOT NULL,
    channel TEXT NOT NULL,
    category TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (tenant, person_id, notification_id, n)
);

CREATE INDEX cap_use_age ON cap_use (at);
