-- Only adds: processes of the version before run on beside it.

-- What ended undelivered, by why. Nothing of it is written at accept, and none of its columns changes when a notification
-- succeeds, so that the update of its end stays within its page (HOT).
CREATE INDEX notification_reason ON notification (tenant, reason, id) WHERE reason IS NOT NULL;

-- Which blocks of the table can hold an app, a category, a template or an address: for looking up what is rare. Accept
-- writes nothing into it; autovacuum summarises blocks once they are full.
CREATE INDEX notification_blocks ON notification USING brin (
    app text_bloom_ops (n_distinct_per_range = 32), category text_bloom_ops (n_distinct_per_range = 32),
    template text_bloom_ops (n_distinct_per_range = 32), to_address text_bloom_ops (n_distinct_per_range = 400)
) WITH (pages_per_range = 16, autosummarize = on);

ALTER TABLE inbox_item ADD COLUMN recalled_at TIMESTAMP WITH TIME ZONE;
