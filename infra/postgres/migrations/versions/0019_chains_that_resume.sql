-- Only adds: a step that ended without it stays at its end, as before.

-- What is left of a chain when a step ends that a receipt may still call failed: its later places, with their addresses.
ALTER TABLE delivery ADD COLUMN rest JSON;
