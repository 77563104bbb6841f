-- Only adds: processes of the version before run on beside it.

CREATE TABLE category (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    channels TEXT[] NOT NULL,
    strategy TEXT DEFAULT 'all' NOT NULL,
    fallback_after INTERVAL,
    mandatory BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, name),
    FOREIGN KEY(tenant) REFERENCES tenant (id)
);
