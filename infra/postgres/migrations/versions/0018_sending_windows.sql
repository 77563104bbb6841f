-- Only adds: without a window nothing is put off, as before. Constant defaults, so no table is rewritten.

-- The clock of windows that go by the tenant's, and of recipients who have none of their own; '' is UTC.
ALTER TABLE tenant ADD COLUMN time_zone TEXT DEFAULT '' NOT NULL;

-- The hours in which the low lane sends: of what names none itself, and whose category names none.
ALTER TABLE tenant ADD COLUMN send_window JSONB;

-- The same for a category's.
ALTER TABLE category ADD COLUMN send_window JSONB;
