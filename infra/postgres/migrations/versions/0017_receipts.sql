-- Only adds: processes of the version before run on beside it, and what no provider reports on has no entry in any of this.

-- What a receipt has said of a step that waits for one: delivered, or the class of the failure.
ALTER TABLE work ADD COLUMN receipt TEXT;

-- Until when a receipt may still come for what was sent; NULL where none is expected (any more).
ALTER TABLE delivery ADD COLUMN receipt_until TIMESTAMP WITH TIME ZONE;

CREATE INDEX delivery_receipt ON delivery (receipt_until) WHERE receipt_until IS NOT NULL;

CREATE INDEX delivery_awaited ON delivery (notification_id) WHERE receipt_until IS NOT NULL;

-- One message that a provider took, or reports on, by its own id.
CREATE TABLE receipt_inbox (
    account TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    notification_id UUID,
    n SMALLINT,
    attempt SMALLINT DEFAULT 0 NOT NULL,
    status TEXT,
    class TEXT,
    code TEXT,
    delivered_at TIMESTAMP WITH TIME ZONE,
    read_at TIMESTAMP WITH TIME ZONE,
    failed_at TIMESTAMP WITH TIME ZONE,
    told BOOLEAN DEFAULT true NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (account, provider_id)
)
 WITH (fillfactor = 70);

CREATE INDEX receipt_inbox_step ON receipt_inbox (notification_id, n);

CREATE INDEX receipt_inbox_age ON receipt_inbox (until);
