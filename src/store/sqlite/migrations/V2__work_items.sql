-- Local statuses without a row in their mapping table: work for a person. At
-- most a thousand per party are kept; codes and labels, no texts of citizens.
CREATE TABLE work_item (
    party TEXT NOT NULL,
    system TEXT NOT NULL,
    code TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (party, system, code, name)
) STRICT, WITHOUT ROWID;
