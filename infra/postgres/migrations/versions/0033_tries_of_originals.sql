-- Only adds: processes of the version before look at the newest try and the one before it, as they did.

-- The tries before the newest: any of them may have arrived. NULL: there are none.
ALTER TABLE dedupe ADD COLUMN earlier UUID[];

-- Of the tries that there are. Windows last for 7 days at the most, and few have tries.
UPDATE dedupe d SET earlier = c.ids
FROM dedupe x
JOIN LATERAL (SELECT origin FROM notification WHERE id = x.notification_id OFFSET 0) n ON n.origin IS NOT NULL
JOIN LATERAL (
    WITH RECURSIVE before AS (
        SELECT n.origin AS id, 1 AS depth
        UNION ALL
        SELECT o.origin, depth + 1 FROM before JOIN notification o ON o.id = before.id
        WHERE o.origin IS NOT NULL AND depth < 100
    )
    SELECT array_agg(id ORDER BY id) AS ids FROM before
) c ON true
WHERE d.slot = x.slot;

-- Which slot a try is of, when it is made anew or edited.
CREATE INDEX dedupe_earlier ON dedupe USING gin (earlier) WHERE earlier IS NOT NULL;
