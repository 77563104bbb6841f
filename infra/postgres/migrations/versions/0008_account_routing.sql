-- Only adds: processes of the version before run on beside it.

ALTER TABLE work ADD COLUMN tried TEXT[];
ALTER TABLE work ADD COLUMN awaiting BOOLEAN DEFAULT false NOT NULL;

CREATE TABLE permit (
    account TEXT NOT NULL,
    left_over FLOAT NOT NULL,
    filled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (account)
)
 WITH (fillfactor = 50);
