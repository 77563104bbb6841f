-- Only adds. The table holds what was asked for within windows of 7 days at the most, and is small.

-- Which slot an original has, when a new try takes its place.
CREATE INDEX dedupe_notification ON dedupe (notification_id);
