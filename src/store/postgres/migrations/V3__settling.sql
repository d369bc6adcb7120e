-- Settling what was parked, and joining by invitation. Programs that know only
-- what was there before serve on: they read none of this, and a settling makes
-- what they decide meanwhile be decided anew.

-- What is parked is not final: the few that are. Writers wait while it is made.
CREATE INDEX submission_parked ON submission (id) WHERE outcome = 4;

CREATE TYPE jembatan_settled_1 AS (id bigint, outcome smallint, decision text);

-- Replaces "parked" by what was decided at last, in one statement with all that
-- follows from it. Whoever repeats a parked submission is decided by its head
-- alone, which a settling leaves where it is: so it takes the directory's lock
-- alone and raises its version, after which no batch commits that was decided
-- before.
CREATE FUNCTION jembatan_settle_1(
    own_replica bigint,
    own_generation bigint,
    own_batch bigint,
    directory bigint,
    heads jembatan_head_1[],
    seen jembatan_seen_1[],
    filed jembatan_complaint_1[],
    changed jembatan_complaint_1[],
    submissions jembatan_submission_1[],
    parts jembatan_part_1[],
    histories jembatan_history_1[],
    repetitions jembatan_repetition_1[],
    refs jembatan_reference_1[],
    erasures jembatan_erasure_1[],
    deliveries jembatan_delivery_1[],
    held jembatan_held_1[],
    work_items jembatan_work_item_1[],
    settled jembatan_settled_1[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ids bigint[];
    were_parked bigint;
BEGIN
    UPDATE replica SET batch = own_batch WHERE id = own_replica AND generation = own_generation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this connection was given up' USING ERRCODE = 'JB002';
    END IF;
    PERFORM pg_advisory_xact_lock(7301, 1);
    UPDATE node SET directory_version = directory_version + 1 WHERE directory_version = directory;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the directory has changed' USING ERRCODE = 'JB001';
    END IF;

    PERFORM jembatan_commit_1(
        own_replica, own_generation, own_batch, directory + 1, heads, seen, filed, changed,
        submissions, parts, histories, repetitions, refs, erasures, deliveries, held, work_items);

    ids := ARRAY(SELECT id FROM unnest(settled));
    -- Of what is rejected no text is kept.
    UPDATE submission s
        SET outcome = w.outcome, decision = w.decision,
            handover_digest = CASE WHEN w.outcome <> 3 THEN s.handover_digest END
        FROM unnest(settled) w WHERE s.id = w.id AND s.id = ANY (ids) AND s.outcome = 4;
    GET DIAGNOSTICS were_parked = ROW_COUNT;
    IF were_parked <> cardinality(ids) THEN
        RAISE EXCEPTION 'it is not parked any more' USING ERRCODE = 'JB001';
    END IF;
    UPDATE part SET bytes = NULL
        WHERE row = ANY (ARRAY(SELECT id FROM unnest(settled) WHERE outcome = 3));
END
$$;

-- Invitations to join. Of a code only a digest is kept.
CREATE TABLE invitation (
    id text COLLATE "C" PRIMARY KEY,
    party text COLLATE "C" NOT NULL,
    code_digest bytea NOT NULL,
    made_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    revoked_at bigint,
    used_at bigint,
    used_from text,
    -- Of the public key: only the same one may come again.
    used_key bytea,
    serial text COLLATE "C"
);
CREATE INDEX invitation_made ON invitation (made_at DESC, id);

-- Certificates that were issued, so that a revocation can name them.
CREATE TABLE issued_certificate (
    serial text COLLATE "C" PRIMARY KEY,
    party text COLLATE "C" NOT NULL,
    issued_at bigint NOT NULL,
    ends_at bigint NOT NULL,
    -- NULL: a renewal.
    invitation text COLLATE "C"
);
CREATE INDEX issued_to ON issued_certificate (party, issued_at DESC, serial);

-- Attempts to join that were refused, the newest ones only: strangers must not
-- be able to fill a disk.
CREATE TABLE refused_join (
    row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    remote text NOT NULL,
    party text NOT NULL,
    invitation text,
    reason text NOT NULL
);
