-- Hub: institutions whose registration has changed and whose open complaints
-- are still to be told to whoever reads for them now.
CREATE TABLE retelling (code TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
