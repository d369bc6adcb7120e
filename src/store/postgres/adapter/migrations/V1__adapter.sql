-- The store of an adapter: outbox, inbox and copies of the parties that it serves.
-- One process writes; it holds an advisory lock of its session for as long.
--
-- A row of a journal has the id (journal << 36) | position, so that journals
-- grow at their end. Tables have the names that a hub's have: neither can be made
-- in the database of the other, whatever the program's age. Numbers (journals,
-- views) are given by the one writer.
-- Schema and programs change one after the other, as in a hub's database.

CREATE TABLE schema_use (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Programs that know this version of the schema, or a later one, may serve.
    readable_from integer NOT NULL
);
INSERT INTO schema_use (readable_from) VALUES (1);

CREATE TABLE node (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    instance_id bytea NOT NULL,
    -- Key of the HMAC that stands in submission.mac; never leaves this store.
    dedup_key bytea NOT NULL
);

-- Who writes: which process, the last batch that was committed, and a generation
-- by which a new line shuts out what an earlier one may still bring.
CREATE TABLE writer (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder bytea NOT NULL DEFAULT ''::bytea,
    generation bigint NOT NULL DEFAULT 0,
    batch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO writer DEFAULT VALUES;

CREATE TABLE journal (
    id bigint PRIMARY KEY,
    party text COLLATE "C" NOT NULL,
    -- 1 submissions, 2 deliveries, 3 own submissions that were set aside.
    direction smallint NOT NULL,
    epoch bigint NOT NULL,
    UNIQUE (party, direction, epoch)
);

CREATE TABLE party_state (
    party text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    submissions bigint NOT NULL,
    deliveries bigint NOT NULL,
    head bigint NOT NULL,
    head_chain bytea NOT NULL,
    acknowledged bigint NOT NULL,
    acknowledged_chain bytea NOT NULL,
    delivered bigint NOT NULL,
    -- The chain at the end of the deliveries.
    delivered_chain bytea NOT NULL,
    consumed bigint NOT NULL,
    copy_first bigint,
    copy_last bigint,
    copy_chain bytea,
    aside_journal bigint NOT NULL,
    aside_from bigint NOT NULL,
    aside_to bigint NOT NULL,
    accepted bigint NOT NULL,
    duplicates bigint NOT NULL,
    rejected bigint NOT NULL,
    parked bigint NOT NULL,
    repeated bigint NOT NULL
) WITH (fillfactor = 50);

-- Where a party's journals stood when an epoch ended.
CREATE TABLE ended_epoch (
    party text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    submissions bigint NOT NULL,
    head bigint NOT NULL,
    head_chain bytea NOT NULL,
    deliveries bigint NOT NULL,
    delivered bigint NOT NULL,
    delivered_chain bytea NOT NULL,
    -- The local system has taken over through here; the rest is handed over
    -- before anything of the next epoch.
    consumed bigint NOT NULL,
    PRIMARY KEY (party, epoch)
);

CREATE TABLE submission (
    id bigint PRIMARY KEY,
    stored_at bigint NOT NULL,
    event_id bytea,
    -- HMAC of the hand-over digest, cut to 16 bytes: for ever, so that the same
    -- content is known again after the digest was erased. NULL: only a copy
    -- without it came, or what the hub decided.
    mac bytea,
    complaint_id bytea,
    -- Empty: gone, see there.
    event bytea NOT NULL,
    -- Erased with the parts.
    handover_digest bytea,
    chain bytea NOT NULL,
    -- What the event changes here once it is accepted, JSON.
    effect text,
    -- Kind, state (0 withheld, 1 present, 2 erased), SHA-256, then length and
    -- bytes, or the event that erased them.
    parts bytea
);

-- For ever: where an event stands that was handed over here.
CREATE TABLE event_key (
    event_id bytea PRIMARY KEY,
    row bigint NOT NULL
);

CREATE TABLE delivery (
    id bigint PRIMARY KEY,
    stored_at bigint NOT NULL,
    header bytea NOT NULL,
    event bytea,
    -- Bits 0 and 1: its parts. 2: an earlier epoch brought all of it; 3: some of
    -- its decisions, see told_decision.
    readable smallint NOT NULL,
    parts bytea
);

-- Chains of deliveries journals, here and there.
CREATE TABLE mark (
    id bigint PRIMARY KEY,
    chain bytea NOT NULL
);

-- What the hub decided about a submission.
CREATE TABLE decision (
    row bigint PRIMARY KEY,
    -- 1 accepted, 2 duplicate, 3 rejected, 4 parked.
    outcome smallint NOT NULL,
    -- JSON.
    decision text NOT NULL
);
CREATE INDEX decision_refused ON decision (row) WHERE outcome >= 3;

-- A complaint by the hub's word, as one party knows it.
CREATE TABLE complaint_view (
    id bigint PRIMARY KEY,
    complaint_id bytea NOT NULL,
    party text COLLATE "C" NOT NULL,
    -- Of the Tracking ID that it has, or will have unless that is taken.
    number bigint NOT NULL,
    filed_row bigint,
    origin_party text,
    origin_system text,
    origin_reference text,
    tracking_id text,
    status text,
    handler text,
    revision integer NOT NULL,
    anonymous boolean NOT NULL,
    confidential boolean NOT NULL,
    answer_missing boolean NOT NULL,
    -- In which the hub last said where it stands. Its first word in a later
    -- epoch counts, whatever the revision.
    epoch bigint NOT NULL,
    UNIQUE (complaint_id, party)
) WITH (fillfactor = 80);
CREATE INDEX complaint_view_number ON complaint_view (number);

-- Own submissions about a complaint beside its filing.
CREATE TABLE event_of (
    complaint bigint NOT NULL,
    row bigint NOT NULL,
    PRIMARY KEY (complaint, row)
);

-- Revisions that were delivered.
CREATE TABLE history (
    complaint bigint NOT NULL,
    revision integer NOT NULL,
    row bigint NOT NULL,
    event_id bytea NOT NULL,
    author text NOT NULL,
    accepted_at bigint NOT NULL,
    hops integer NOT NULL,
    -- The rest of the header, JSON.
    header text NOT NULL,
    PRIMARY KEY (complaint, revision)
);

-- Events that were delivered and whose revision has become another one's in a
-- later epoch. They are not handed over again.
CREATE TABLE told_before (
    complaint bigint NOT NULL,
    event_id bytea NOT NULL,
    row bigint NOT NULL,
    PRIMARY KEY (complaint, event_id)
);

-- Decisions, by their place in a delivery of several, that an earlier epoch
-- brought already.
CREATE TABLE told_decision (
    row bigint NOT NULL,
    place integer NOT NULL,
    PRIMARY KEY (row, place)
);

-- References that a party attached to a complaint that it did not file; the
-- origin's own is found by the id that is derived from it.
CREATE TABLE reference (
    party text COLLATE "C" NOT NULL,
    system text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    complaint_id bytea NOT NULL,
    row bigint NOT NULL,
    PRIMARY KEY (party, system, reference),
    -- No second name for it in the same system.
    UNIQUE (complaint_id, party, system)
);

-- Deliveries of which this software could not read the header or the event:
-- kept, acknowledged, and work for a person.
CREATE TABLE unread (
    row bigint PRIMARY KEY,
    party text COLLATE "C" NOT NULL
);
CREATE INDEX unread_of ON unread (party, row);

-- Own submissions whose bytes and parts are not here any more (settled for longer
-- than they are kept), or never came back after a loss.
CREATE TABLE gone (
    row bigint PRIMARY KEY,
    -- Of the event that was here; NULL: it never came back.
    digest bytea
);

-- How far each journal of own submissions was looked through for bytes to let go
-- of. Submissions through decided_through were decided when deliveries stood at
-- `delivered`, at the moment noted_at: once the local system has taken those
-- over, and noted_at is longer ago than they are kept, they are settled.
CREATE TABLE pruning (
    journal bigint PRIMARY KEY,
    pruned_through bigint NOT NULL,
    settled_through bigint NOT NULL,
    decided_through bigint NOT NULL,
    deliveries bigint NOT NULL,
    delivered bigint NOT NULL,
    noted_at bigint NOT NULL
);

-- Local statuses without a row in their mapping table: work for a person. At
-- most a thousand per party are kept; codes and labels, no texts of citizens.
CREATE TABLE work_item (
    party text COLLATE "C" NOT NULL,
    system text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    last_seen bigint NOT NULL,
    PRIMARY KEY (party, system, code, name)
);
CREATE INDEX work_item_seen ON work_item (party, last_seen DESC);

-- What a transaction begins with: a line that was given up writes nothing.
CREATE FUNCTION jembatan_adapter_begin_1(own_generation bigint, own_batch bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE writer SET batch = own_batch WHERE generation = own_generation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this connection was given up' USING ERRCODE = 'JB002';
    END IF;
END
$$;

-- Moves own submissions to other rows, with whatever points to them. Old and new
-- rows are in different journals.
CREATE FUNCTION jembatan_adapter_move_1(of_party text, old_rows bigint[], new_rows bigint[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Decided in an epoch that ended: what was said stays said until the hub
    -- says it anew.
    DELETE FROM decision d USING unnest(old_rows, new_rows) AS m(source, target)
        WHERE d.row = m.target AND EXISTS (SELECT FROM decision o WHERE o.row = m.source);
    UPDATE decision d SET row = m.target FROM unnest(old_rows, new_rows) AS m(source, target)
        WHERE d.row = m.source;
    UPDATE event_key k SET row = m.target
        FROM unnest(old_rows, new_rows) AS m(source, target) JOIN submission s ON s.id = m.source
        WHERE k.event_id = s.event_id AND k.row = m.source;
    UPDATE event_of e SET row = m.target
        FROM unnest(old_rows, new_rows) AS m(source, target) JOIN submission s ON s.id = m.source
            JOIN complaint_view v ON v.complaint_id = s.complaint_id AND v.party = of_party
        WHERE s.event_id IS NOT NULL AND e.complaint = v.id AND e.row = m.source;
    UPDATE complaint_view v SET filed_row = m.target
        FROM unnest(old_rows, new_rows) AS m(source, target) JOIN submission s ON s.id = m.source
        WHERE s.event_id IS NOT NULL AND v.complaint_id = s.complaint_id AND v.party = of_party
            AND v.filed_row = m.source;
    UPDATE reference r SET row = m.target
        FROM unnest(old_rows, new_rows) AS m(source, target) JOIN submission s ON s.id = m.source
        WHERE s.event_id IS NOT NULL AND r.complaint_id = s.complaint_id AND r.party = of_party
            AND r.row = m.source;
    UPDATE submission s SET id = m.target FROM unnest(old_rows, new_rows) AS m(source, target)
        WHERE s.id = m.source;
END
$$;
