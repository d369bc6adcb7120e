-- When `jembatan backup` made this copy: a hub does not serve from it before
-- its operator has begun a new epoch. Empty in a store that is in use.
ALTER TABLE node ADD COLUMN copied_at INTEGER;

-- Where a party's journals stood when an epoch ended.
CREATE TABLE ended_epoch (
    party TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    submissions INTEGER NOT NULL,
    head INTEGER NOT NULL,
    head_chain BLOB NOT NULL,
    deliveries INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    delivered_chain BLOB NOT NULL,
    -- Adapter: its local system has taken over through here; the rest is
    -- handed over before anything of the next epoch.
    consumed INTEGER NOT NULL,
    -- Hub: deliveries after this one are told again in the epoch in force.
    told_from INTEGER NOT NULL,
    PRIMARY KEY (party, epoch)
) STRICT, WITHOUT ROWID;

-- Adapter: the epoch in which the hub last said where a complaint stands. Its
-- first word in a later epoch counts, whatever the revision.
ALTER TABLE complaint_view ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

-- Adapter: decisions, by their place in a delivery of several, that an earlier
-- epoch brought already.
CREATE TABLE told_decision (
    row INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (row, place)
) STRICT, WITHOUT ROWID;

-- Adapter: events that were delivered and whose revision has become another
-- one's in a later epoch. They are not handed over again.
CREATE TABLE told_before (
    complaint INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (complaint, event_id)
) STRICT, WITHOUT ROWID;
