-- Only adds: rows of the version before have none, and wait as before. Without a default, so that nothing is rewritten.

-- When a place of a chain has waited unsent for long enough, and the next one is opened.
ALTER TABLE work ADD COLUMN falls_back_at TIMESTAMPTZ;
