-- The first shape of everything. Hot tables are explained in infra/postgres/tables/.

CREATE TABLE cohort (
    id UUID NOT NULL,
    lane SMALLINT NOT NULL,
    tenant TEXT,
    epoch INTEGER NOT NULL,
    size INTEGER NOT NULL,
    lease TIMESTAMP WITH TIME ZONE NOT NULL,
    holding BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX cohort_lease ON cohort (lease);

CREATE TABLE delivery (
    notification_id UUID NOT NULL,
    n SMALLINT NOT NULL,
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    provider TEXT,
    account TEXT,
    address TEXT,
    status TEXT NOT NULL,
    reason TEXT,
    class TEXT,
    code TEXT,
    attempts SMALLINT DEFAULT 0 NOT NULL,
    provider_id TEXT,
    sent_at TIMESTAMP WITH TIME ZONE,
    delivered_at TIMESTAMP WITH TIME ZONE,
    read_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (notification_id, n)
)
 PARTITION BY RANGE (notification_id);

CREATE TABLE event (
    notification_id UUID NOT NULL,
    id UUID NOT NULL,
    n SMALLINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    type TEXT NOT NULL,
    cohort UUID,
    epoch INTEGER,
    detail JSON,
    PRIMARY KEY (notification_id, id)
)
 PARTITION BY RANGE (notification_id);

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    app TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash BYTEA NOT NULL,
    notification_id UUID,
    answer BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, app, route, key)
);

CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE inbox_item (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    notification_id UUID NOT NULL,
    n SMALLINT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    url TEXT,
    category TEXT NOT NULL,
    data JSON,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE,
    archived_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    changed_in XID8 DEFAULT pg_current_xact_id() NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX inbox_item_changed ON inbox_item (tenant, user_id, changed_in);

CREATE UNIQUE INDEX inbox_item_delivery ON inbox_item (notification_id, n);

CREATE INDEX inbox_item_user ON inbox_item (tenant, user_id, id);

CREATE TABLE inbox_ticket (
    ticket_hash BYTEA NOT NULL,
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (ticket_hash)
);

CREATE TABLE notification (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    app TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    category TEXT NOT NULL,
    user_id TEXT,
    to_channel TEXT,
    to_address TEXT,
    channels TEXT[] NOT NULL,
    strategy TEXT NOT NULL,
    template TEXT,
    template_version INTEGER,
    content JSON,
    data JSON,
    metadata JSON,
    options JSON,
    status TEXT NOT NULL,
    final BOOLEAN DEFAULT false NOT NULL,
    reason TEXT,
    partial BOOLEAN DEFAULT false NOT NULL,
    version SMALLINT DEFAULT 1 NOT NULL,
    accepted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    send_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE,
    origin UUID,
    PRIMARY KEY (id)
)
 PARTITION BY RANGE (id);

CREATE INDEX notification_tenant ON notification (tenant, id);

CREATE INDEX notification_user ON notification (tenant, user_id, id) WHERE user_id IS NOT NULL;

CREATE TABLE suppression (
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, channel, address)
);

CREATE TABLE tenant (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE work (
    notification_id UUID NOT NULL,
    n SMALLINT NOT NULL,
    tenant TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    channel TEXT,
    account TEXT,
    address TEXT,
    locale TEXT,
    chain JSON,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    state SMALLINT DEFAULT 0 NOT NULL,
    cohort UUID,
    attempt SMALLINT DEFAULT 0 NOT NULL,
    failures SMALLINT DEFAULT 0 NOT NULL,
    faults SMALLINT DEFAULT 0 NOT NULL,
    version SMALLINT DEFAULT 1 NOT NULL,
    start_by TIMESTAMP WITH TIME ZONE,
    unknown_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (notification_id, n)
)
 WITH (fillfactor = 50);

CREATE INDEX work_cohort ON work (cohort) WHERE cohort IS NOT NULL;

CREATE INDEX work_due ON work (lane, tenant, due_at) WHERE cohort IS NULL AND state = 0;

CREATE INDEX work_unknown ON work (unknown_at) WHERE state = 1;

CREATE TABLE app (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY(tenant) REFERENCES tenant (id)
);

CREATE TABLE person (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT,
    locale TEXT DEFAULT '' NOT NULL,
    time_zone TEXT DEFAULT '' NOT NULL,
    attributes JSONB DEFAULT '{}' NOT NULL,
    state TEXT DEFAULT 'active' NOT NULL,
    merged_into TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY(tenant) REFERENCES tenant (id)
);

CREATE TABLE template (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    category TEXT DEFAULT '' NOT NULL,
    latest_version INTEGER DEFAULT 0 NOT NULL,
    published_version INTEGER,
    archived_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, name),
    FOREIGN KEY(tenant) REFERENCES tenant (id)
);

CREATE TABLE api_key (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    key_hash BYTEA NOT NULL,
    hint TEXT NOT NULL,
    roles TEXT[] NOT NULL,
    created_by UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    FOREIGN KEY(tenant, app) REFERENCES app (tenant, id),
    UNIQUE (key_hash)
);

CREATE INDEX api_key_tenant ON api_key (tenant, id);

CREATE TABLE identity (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    person_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    app TEXT DEFAULT '' NOT NULL,
    verified BOOLEAN DEFAULT false NOT NULL,
    is_primary BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(tenant, person_id) REFERENCES person (tenant, id) ON DELETE CASCADE
);

CREATE INDEX identity_address ON identity (tenant, channel, address);

CREATE UNIQUE INDEX identity_person ON identity (tenant, person_id, channel, address, app);

CREATE TABLE template_version (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    variables JSONB DEFAULT '{}' NOT NULL,
    contents JSONB NOT NULL,
    example_data JSONB DEFAULT '{}' NOT NULL,
    created_by UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY(tenant, name) REFERENCES template (tenant, name) ON DELETE CASCADE
);

-- Many updates and deletes on few rows: vacuum early, by count rather than by share.
ALTER TABLE work SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
                      autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 20000);
ALTER TABLE cohort SET (fillfactor = 50);

-- UUIDv7 keys carry their time in the first 48 bits, so a week of ids is a range.
CREATE FUNCTION uuid7_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partitions of this week and the coming ones. Safe to repeat and to run from several processes.
-- The default partitions catch what a wrong clock writes, so that no accept ever fails for want of a partition.
CREATE FUNCTION ensure_partitions(weeks_ahead int DEFAULT 4) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    week timestamptz;
    made int := 0;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
    FOREACH parent IN ARRAY ARRAY['notification', 'delivery', 'event'] LOOP
        IF to_regclass(parent || '_default') IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
        END IF;
        FOR i IN 0..weeks_ahead LOOP
            week := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(weeks => i);
            child := parent || '_' || to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW');
            IF to_regclass(child) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)%s', child, parent,
                                   uuid7_floor(week), uuid7_floor(week + interval '7 days'),
                                   CASE parent WHEN 'event' THEN '' ELSE ' WITH (fillfactor = 80)' END);
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    -- A wrong clock wrote into this week before its time: it stays in the default partition.
                    RAISE WARNING '% is not made: rows of its range are in the default partition', child;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
