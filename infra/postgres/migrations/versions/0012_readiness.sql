-- Only adds: processes of the version before run on beside it.

CREATE TABLE probe (
    process UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (process)
)
 WITH (fillfactor = 50);
