-- Only adds; the table has a row for each account with a rate. The version before keeps permits for the high lane alone.

-- How many permits are kept for whoever has few messages and found none, and until when.
ALTER TABLE permit ADD COLUMN few_owed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE permit ADD COLUMN few_owed_until TIMESTAMPTZ;
-- Until when they have had their half: bulk takes what is there.
ALTER TABLE permit ADD COLUMN few_until TIMESTAMPTZ;
-- How many permits ran over since, kept for bulk that did not come; less a share of those that were granted.
ALTER TABLE permit ADD COLUMN ran_over DOUBLE PRECISION NOT NULL DEFAULT 0;
