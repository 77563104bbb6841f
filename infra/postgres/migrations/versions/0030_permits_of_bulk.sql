-- Only adds; the table has a row for each account with a rate. The version before shares by `few_until` and `ran_over`.

-- How many permits are due to bulk, for as many as whoever has few messages had before it.
ALTER TABLE permit ADD COLUMN bulk_due DOUBLE PRECISION NOT NULL DEFAULT 0;
-- Until when bulk is at hand for the next one: the others leave it that which is due to it.
ALTER TABLE permit ADD COLUMN bulk_next_until TIMESTAMPTZ;
-- How many are due to all others, for one in twenty that the high lane had.
ALTER TABLE permit ADD COLUMN others_due DOUBLE PRECISION NOT NULL DEFAULT 0;
