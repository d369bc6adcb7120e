-- Epochs that have ended, and lists of what was refused. Programs that know only
-- what was there before serve on; whoever ends an epoch shuts them out by
-- schema_use.readable_from, since they would tell nothing of it.

-- Where an epoch of a party ended.
CREATE TABLE ended_epoch (
    party text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    -- Journals.
    submissions bigint NOT NULL,
    head bigint NOT NULL,
    head_chain bytea NOT NULL,
    deliveries bigint NOT NULL,
    delivered bigint NOT NULL,
    delivered_chain bytea NOT NULL,
    -- Deliveries behind this place were told again in a later epoch.
    told_from bigint NOT NULL,
    PRIMARY KEY (party, epoch)
);

-- When the last epoch was begun: a hub that was there before serves no more.
ALTER TABLE node ADD COLUMN recovered bigint NOT NULL DEFAULT 0;

-- What was rejected or parked, the newest first. Writers wait while it is made.
CREATE INDEX submission_letter ON submission (stored_at DESC, id DESC) WHERE outcome >= 3;

-- Puts deliveries of an ended epoch, after one place and through another, behind
-- the party's deliveries of the epoch in force; says how many. What another
-- replica has put there meanwhile is not put there twice. With `is_last`
-- everything behind `told_from` counts as told from then on.
CREATE FUNCTION jembatan_tell_again_1(
    name text, ended bigint, after bigint, through bigint, is_last boolean, told_from bigint
) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    source bigint;
    open_through bigint;
    target bigint;
    standing bigint;
    told bigint := 0;
BEGIN
    SELECT e.deliveries, e.told_from INTO source, open_through
        FROM ended_epoch e WHERE e.party = name AND e.epoch = ended FOR UPDATE;
    SELECT d.journal, d.position INTO target, standing
        FROM delivery_head d WHERE d.party = name FOR UPDATE;
    IF source IS NULL OR target IS NULL THEN
        RAISE EXCEPTION 'no such journal' USING ERRCODE = 'JB003';
    END IF;
    through := least(through, open_through);
    IF through > after THEN
        INSERT INTO delivery (id, stored_at, header, event_row, readable)
            SELECT ((target << 36) | (standing + 1)) + (w.id - ((source << 36) | (after + 1))),
                w.stored_at, w.header, w.event_row, w.readable
            FROM delivery w
            WHERE w.id BETWEEN (source << 36) | (after + 1) AND (source << 36) | through;
        GET DIAGNOSTICS told = ROW_COUNT;
        IF told <> through - after THEN
            RAISE EXCEPTION 'deliveries of the epoch that ended are missing'
                USING ERRCODE = 'JB003';
        END IF;
        UPDATE delivery_head d SET position = d.position + told WHERE d.party = name;
    END IF;
    IF is_last THEN
        UPDATE ended_epoch e SET told_from = least(e.told_from, told_from)
            WHERE e.party = name AND e.epoch = ended;
    END IF;
    RETURN told;
END
$$;
