-- Adapter: deliveries of which this software could not read the header or the
-- event: kept, acknowledged, and work for a person. Their decisions, view and
-- effects are still to be taken from them.
CREATE TABLE unread (
    row INTEGER PRIMARY KEY,
    party TEXT NOT NULL
) STRICT;
CREATE INDEX unread_of ON unread (party, row);

-- What is parked is not final: the few that are, and what repeats them.
CREATE INDEX decision_parked ON decision (row) WHERE outcome = 4;

-- Adapter: own submissions whose bytes and parts are not here any more (settled
-- for longer than they are kept), or never came back to a lost disk. Their row
-- stays, with chain and mac; only its event is empty.
CREATE TABLE gone (
    row INTEGER PRIMARY KEY,
    -- Of the event that was here; NULL: it never came back.
    digest BLOB
) STRICT;

-- Adapter: how far each journal of own submissions was looked through for bytes
-- to let go of. Submissions through decided_through were decided when deliveries
-- stood at `delivered`, at the moment noted_at: once the local system has taken
-- those over, and noted_at is longer ago than they are kept, they are settled
-- (settled_through).
CREATE TABLE pruning (
    journal INTEGER PRIMARY KEY,
    pruned_through INTEGER NOT NULL,
    settled_through INTEGER NOT NULL,
    decided_through INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    noted_at INTEGER NOT NULL
) STRICT;
