-- Only adds, under a lock that lasts as long as one look along `dedupe`
-- (0.3 s for a million slots); 0034 fills it. Processes of the version before look at the newest try and the one before it,
-- as they did, and what they write is mended by a trigger.

-- The tries before the newest: any of them may have arrived. NULL: there are none.
ALTER TABLE dedupe ADD COLUMN earlier UUID[];

-- Which slot a try is of, when it is made anew or edited.
CREATE INDEX dedupe_earlier ON dedupe USING gin (earlier) WHERE earlier IS NOT NULL;

-- For the time in which both versions run; a later migration drops both, when no process of the version before is left.
-- Those write `notification_id` and leave `earlier`: with the window as it was it is a new try, which joins the others
-- (a hundred, as in `infra.postgres.accept.slots`), with another window somebody else's, who has none. This version writes
-- both; where it changes the owner alone the rule says the same: full of tries it stays so, and who takes what ended
-- undelivered has a window of his own.
CREATE FUNCTION keep_earlier_tries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.earlier := CASE WHEN NEW.until = OLD.until THEN (OLD.earlier || OLD.notification_id)[:100] END;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_earlier_tries BEFORE UPDATE ON dedupe FOR EACH ROW
WHEN (NEW.notification_id <> OLD.notification_id AND NEW.earlier IS NOT DISTINCT FROM OLD.earlier)
EXECUTE FUNCTION keep_earlier_tries();
