-- What the accepting statement is given, one value a notification (infra/postgres/accepting.py, `Row`). Processes that
-- run know it field by field, so it never changes: another field takes another type beside it (accept_row_2), and this one
-- is dropped when no process of a version before is left.
CREATE TYPE accept_row AS (
    id UUID,
    tenant TEXT,
    app TEXT,
    lane SMALLINT,
    category TEXT,
    user_id TEXT,
    to_channel TEXT,
    to_address TEXT,
    channels TEXT,
    strategy TEXT,
    template TEXT,
    template_version INTEGER,
    content JSON,
    data JSON,
    metadata JSON,
    options JSON,
    send_at TIMESTAMP WITH TIME ZONE,
    expires_in INTERVAL,
    expires_at TIMESTAMP WITH TIME ZONE
);
