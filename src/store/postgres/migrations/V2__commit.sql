-- One batch of a replica, in one statement that commits by itself: it locks,
-- checks that nothing of what was read has moved, and writes. Locks are taken
-- in classes, each sorted: the replica's own row, the directory (shared),
-- submission heads, complaints, delivery heads, what is held. So batches of
-- several replicas never wait in a circle, and nobody thinks under a lock.
--
-- Name and types end in a number: a later version stands beside this one for
-- as long as programs that call this one may serve.

CREATE TYPE jembatan_head_1 AS (
    party text, read_position bigint, read_token bytea, position bigint, chain bytea,
    accepted bigint, duplicates bigint, rejected bigint, parked bigint, repeated bigint
);
CREATE TYPE jembatan_seen_1 AS (id bigint, version integer);
CREATE TYPE jembatan_complaint_1 AS (
    id bigint, complaint_id bytea, number bigint, is_open boolean, handler text, state text
);
CREATE TYPE jembatan_submission_1 AS (
    id bigint, stored_at bigint, event_id bytea, is_first boolean, mac bytea, event bytea,
    handover_digest bytea, chain bytea, outcome smallint, decision text
);
CREATE TYPE jembatan_part_1 AS (
    "row" bigint, place smallint, kind smallint, sha256 bytea, bytes bytea, erased_by bytea
);
CREATE TYPE jembatan_history_1 AS (complaint bigint, revision integer, "row" bigint, hops integer);
CREATE TYPE jembatan_repetition_1 AS (complaint bigint, "row" bigint);
CREATE TYPE jembatan_reference_1 AS (party text, system text, reference text, complaint_id bytea);
CREATE TYPE jembatan_erasure_1 AS ("row" bigint, kind smallint, sha256 bytea, erased_by bytea);
CREATE TYPE jembatan_delivery_1 AS (
    party text, stored_at bigint, header bytea, event_row bigint, readable smallint
);
CREATE TYPE jembatan_held_1 AS (party text, position bigint, chain bytea);
CREATE TYPE jembatan_work_item_1 AS (
    party text, system text, code text, name text, count bigint, last_seen bigint
);

CREATE FUNCTION jembatan_commit_1(
    own_replica bigint,
    own_generation bigint,
    own_batch bigint,
    -- The directory's version as read; NULL: nothing was decided.
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
    work_items jembatan_work_item_1[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    names text[];
    ids bigint[];
    as_read bigint;
BEGIN
    UPDATE replica SET batch = own_batch WHERE id = own_replica AND generation = own_generation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this connection was given up' USING ERRCODE = 'JB002';
    END IF;

    IF directory IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(7301, 1);
        IF directory <> (SELECT directory_version FROM node) THEN
            RAISE EXCEPTION 'the directory has changed' USING ERRCODE = 'JB001';
        END IF;
    END IF;

    IF cardinality(heads) > 0 THEN
        names := ARRAY(SELECT party FROM unnest(heads));
        SELECT count(*) INTO as_read
            FROM (SELECT party, position, token FROM submission_head
                  WHERE party = ANY (names) ORDER BY party FOR UPDATE) h
            JOIN unnest(heads) w ON w.party = h.party
                AND w.read_position = h.position AND w.read_token IS NOT DISTINCT FROM h.token;
        IF as_read <> cardinality(names) THEN
            RAISE EXCEPTION 'a journal has moved' USING ERRCODE = 'JB001';
        END IF;
    END IF;

    IF cardinality(seen) > 0 THEN
        ids := ARRAY(SELECT id FROM unnest(seen));
        SELECT count(*) INTO as_read
            FROM (SELECT id, version FROM complaint
                  WHERE id = ANY (ids) ORDER BY id FOR UPDATE) c
            JOIN unnest(seen) w ON w.id = c.id AND w.version = c.version;
        IF as_read <> cardinality(ids) THEN
            RAISE EXCEPTION 'a complaint has moved' USING ERRCODE = 'JB001';
        END IF;
    END IF;

    IF cardinality(heads) > 0 THEN
        UPDATE submission_head h
            SET position = w.position, chain = w.chain,
                accepted = h.accepted + w.accepted, duplicates = h.duplicates + w.duplicates,
                rejected = h.rejected + w.rejected, parked = h.parked + w.parked,
                repeated = h.repeated + w.repeated
            FROM unnest(heads) w WHERE h.party = w.party AND h.party = ANY (names);
    END IF;
    IF cardinality(submissions) > 0 THEN
        INSERT INTO submission (id, stored_at, event_id, mac, event, handover_digest, chain,
                                outcome, decision)
            SELECT id, stored_at, event_id, mac, event, handover_digest, chain, outcome, decision
            FROM unnest(submissions);
        INSERT INTO event_key (event_id, row)
            SELECT event_id, id FROM unnest(submissions) WHERE is_first ORDER BY event_id;
        INSERT INTO part (row, place, kind, sha256, bytes, erased_by)
            SELECT row, place, kind, sha256, bytes, erased_by FROM unnest(parts);
    END IF;
    IF cardinality(filed) > 0 THEN
        INSERT INTO complaint (id, complaint_id, number, version, is_open, handler, state)
            SELECT id, complaint_id, number, 1, is_open, handler, state FROM unnest(filed);
    END IF;
    IF cardinality(changed) > 0 THEN
        UPDATE complaint c
            SET version = c.version + 1, is_open = w.is_open, handler = w.handler, state = w.state
            FROM unnest(changed) w WHERE c.id = w.id AND c.id = ANY (ids);
    END IF;
    IF cardinality(histories) > 0 THEN
        INSERT INTO history (complaint, revision, row, hops)
            SELECT complaint, revision, row, hops FROM unnest(histories);
    END IF;
    IF cardinality(repetitions) > 0 THEN
        INSERT INTO repetition (complaint, row) SELECT complaint, row FROM unnest(repetitions);
    END IF;
    IF cardinality(refs) > 0 THEN
        INSERT INTO reference (party, system, reference, complaint_id)
            SELECT party, system, reference, complaint_id FROM unnest(refs);
    END IF;
    IF cardinality(erasures) > 0 THEN
        UPDATE part p SET bytes = NULL, erased_by = e.erased_by
            FROM unnest(erasures) e
            WHERE p.row = e.row AND p.kind = e.kind
                AND (p.sha256 = e.sha256 OR (e.sha256 IS NULL AND p.erased_by IS NULL));
        UPDATE submission s SET handover_digest = NULL
            WHERE s.id = ANY (ARRAY(SELECT row FROM unnest(erasures)))
                AND s.handover_digest IS NOT NULL;
    END IF;
    IF cardinality(work_items) > 0 THEN
        INSERT INTO work_item AS i (party, system, code, name, count, last_seen)
            SELECT party, system, code, name, count, last_seen FROM unnest(work_items)
            ON CONFLICT (party, system, code, name) DO UPDATE
                SET count = i.count + excluded.count, last_seen = excluded.last_seen;
        -- A thousand of one party: whoever puts a number into a code would
        -- else fill the store. The one not seen for longest makes room.
        DELETE FROM work_item i
            USING (SELECT party, system, code, name,
                       row_number() OVER (PARTITION BY party ORDER BY last_seen DESC) AS age
                   FROM work_item
                   WHERE party = ANY (ARRAY(SELECT DISTINCT party FROM unnest(work_items)))) old
            WHERE old.age > 1000 AND i.party = old.party AND i.system = old.system
                AND i.code = old.code AND i.name = old.name;
    END IF;

    IF cardinality(deliveries) > 0 THEN
        names := ARRAY(SELECT DISTINCT party FROM unnest(deliveries));
        SELECT count(*) INTO as_read
            FROM (SELECT party FROM delivery_head
                  WHERE party = ANY (names) ORDER BY party FOR UPDATE) h;
        IF as_read <> cardinality(names) THEN
            RAISE EXCEPTION 'a party without journals is told' USING ERRCODE = 'JB003';
        END IF;
        INSERT INTO delivery (id, stored_at, header, event_row, readable)
            SELECT (h.journal << 36)
                    | (h.position + row_number() OVER (PARTITION BY d.party ORDER BY d.place)),
                d.stored_at, d.header, d.event_row, d.readable
            FROM unnest(deliveries) WITH ORDINALITY
                AS d(party, stored_at, header, event_row, readable, place)
            JOIN delivery_head h ON h.party = d.party AND h.party = ANY (names);
        UPDATE delivery_head h SET position = h.position + d.told
            FROM (SELECT party, count(*) AS told FROM unnest(deliveries) GROUP BY party) d
            WHERE h.party = d.party AND h.party = ANY (names);
    END IF;

    IF cardinality(held) > 0 THEN
        names := ARRAY(SELECT party FROM unnest(held));
        PERFORM 1 FROM delivery_held WHERE party = ANY (names) ORDER BY party FOR UPDATE;
        INSERT INTO mark (id, chain)
            SELECT (d.journal << 36) | w.position, w.chain
            FROM unnest(held) w
            JOIN delivery_head d ON d.party = w.party AND d.party = ANY (names)
            JOIN delivery_held h ON h.party = w.party AND h.party = ANY (names)
            WHERE w.position > h.position AND w.position <= d.position
            ON CONFLICT (id) DO NOTHING;
        UPDATE delivery_held h SET position = w.position, chain = w.chain
            FROM unnest(held) w
            JOIN delivery_head d ON d.party = w.party AND d.party = ANY (names)
            WHERE h.party = w.party AND h.party = ANY (names)
                AND w.position > h.position AND w.position <= d.position;
    END IF;
END
$$;

-- Begins the journals of a party that this store has never seen; whoever comes
-- second changes nothing.
CREATE FUNCTION jembatan_begin_party_1(
    name text, first_epoch bigint, submissions_root bytea, deliveries_root bytea
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    up bigint;
    down bigint;
BEGIN
    -- One at a time: the rows that are made here belong together.
    PERFORM pg_advisory_xact_lock(7301, 2);
    IF EXISTS (SELECT 1 FROM submission_head WHERE party = name) THEN
        RETURN;
    END IF;
    INSERT INTO journal (party, direction, epoch) VALUES (name, 1, first_epoch)
        RETURNING id INTO up;
    INSERT INTO journal (party, direction, epoch) VALUES (name, 2, first_epoch)
        RETURNING id INTO down;
    INSERT INTO submission_head (party, epoch, journal, chain)
        VALUES (name, first_epoch, up, submissions_root);
    INSERT INTO delivery_head (party, epoch, journal) VALUES (name, first_epoch, down);
    INSERT INTO delivery_held (party, chain) VALUES (name, deliveries_root);
END
$$;
