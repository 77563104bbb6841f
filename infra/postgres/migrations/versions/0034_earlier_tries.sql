-- Locks the slots that it fills and nothing else: who posts what was tried anew already, or tries it anew again, waits for it,
-- and nobody else does. Six seconds for a million slots, and one for 100,000 that were tried anew. Of windows that have ended
-- nobody asks any more.

-- Of the tries that there are, with those that were written since 0033. Who changes a slot meanwhile is not undone: a newer
-- try has been added by then, and another window is another's.
UPDATE dedupe d
SET earlier = (ARRAY(SELECT DISTINCT id FROM unnest(c.ids || d.earlier) t(id) WHERE id <> d.notification_id ORDER BY id))[:100]
FROM dedupe x
JOIN LATERAL (SELECT origin FROM notification WHERE id = x.notification_id OFFSET 0) n ON n.origin IS NOT NULL
JOIN LATERAL (
    WITH RECURSIVE before AS (
        SELECT n.origin AS id, 1 AS depth
        UNION ALL
        SELECT o.origin, depth + 1 FROM before JOIN notification o ON o.id = before.id
        WHERE o.origin IS NOT NULL AND depth < 100
    )
    SELECT array_agg(id) AS ids FROM before
) c ON true
WHERE x.until > now() AND d.slot = x.slot AND d.until = x.until;
