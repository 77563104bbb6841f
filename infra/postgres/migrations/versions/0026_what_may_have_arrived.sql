-- Only adds: records of the version before have none, and end as before. Without a default, so that nothing is rewritten.

-- Attempts that may have arrived: handed over, and nothing has said yet what became of them. NULL: there are none.
ALTER TABLE delivery ADD COLUMN lost JSON;
