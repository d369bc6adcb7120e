-- The national record of a hub whose replicas share this database.
--
-- A row of a journal has the id (journal << 36) | position, so that journals
-- grow at their end. Bytes of an event stand once, in their submission; what
-- is random (event_key, the index of complaint_id) is narrow.
-- Schema and programs change one after the other: a migration only adds what
-- programs that know schema_use.readable_from can do without; a later one
-- takes away.

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
    dedup_key bytea NOT NULL,
    -- Grows with every change of the directory; a batch that was decided by
    -- an older one does not commit.
    directory_version bigint NOT NULL DEFAULT 0,
    national text,
    -- Categories and routing rules, JSON.
    policy text
);

-- One row for each program that writes: the last batch that it committed, and
-- a generation by which it shuts out what a lost connection may still bring.
CREATE TABLE replica (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 0,
    batch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    party text COLLATE "C" NOT NULL,
    -- 1 submissions, 2 deliveries.
    direction smallint NOT NULL,
    epoch bigint NOT NULL,
    UNIQUE (party, direction, epoch)
);

CREATE TABLE submission_head (
    party text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    journal bigint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    chain bytea NOT NULL,
    -- The session that may write.
    token bytea,
    accepted bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    parked bigint NOT NULL DEFAULT 0,
    repeated bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE delivery_head (
    party text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    journal bigint NOT NULL,
    position bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- What the other end says of the deliveries: a row of its own, so that an
-- acknowledgement never waits for who delivers.
CREATE TABLE delivery_held (
    party text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0,
    chain bytea NOT NULL,
    consumed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE submission (
    id bigint PRIMARY KEY,
    stored_at bigint NOT NULL,
    event_id bytea,
    -- HMAC of the hand-over digest, cut to 16 bytes: for ever, so that the same
    -- content is known again after the digest was erased.
    mac bytea NOT NULL,
    event bytea NOT NULL,
    -- Erased with the parts.
    handover_digest bytea,
    chain bytea NOT NULL,
    -- 1 accepted, 2 duplicate, 3 rejected, 4 parked.
    outcome smallint NOT NULL,
    -- What was decided, JSON.
    decision text NOT NULL
);

-- For ever: where an event stands first.
CREATE TABLE event_key (
    event_id bytea PRIMARY KEY,
    row bigint NOT NULL
);

-- No bytes and not erased: withheld from this node.
CREATE TABLE part (
    row bigint NOT NULL,
    place smallint NOT NULL,
    kind smallint NOT NULL,
    sha256 bytea NOT NULL,
    bytes bytea,
    erased_by bytea,
    PRIMARY KEY (row, place)
);

-- The id is the row of the filing.
CREATE TABLE complaint (
    id bigint PRIMARY KEY,
    complaint_id bytea NOT NULL UNIQUE,
    -- Of the Tracking ID.
    number bigint NOT NULL UNIQUE,
    -- Grows with every change, also of what is no revision: who decides names
    -- the version that it read.
    version integer NOT NULL,
    is_open boolean NOT NULL,
    handler text COLLATE "C",
    state text NOT NULL
) WITH (fillfactor = 80);

CREATE INDEX complaint_open ON complaint (handler, id) WHERE is_open;

CREATE TABLE history (
    complaint bigint NOT NULL,
    revision integer NOT NULL,
    row bigint NOT NULL,
    hops integer NOT NULL,
    PRIMARY KEY (complaint, revision)
);

-- Submissions that repeat another one: where an erasure finds them.
CREATE TABLE repetition (
    complaint bigint NOT NULL,
    row bigint NOT NULL,
    PRIMARY KEY (complaint, row)
);

-- References that a party attached to a complaint that it did not file; the
-- origin's own is found by the id that is derived from it.
CREATE TABLE reference (
    party text COLLATE "C" NOT NULL,
    system text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    complaint_id bytea NOT NULL,
    PRIMARY KEY (party, system, reference),
    -- No second name for it in the same system.
    UNIQUE (complaint_id, party, system)
);

CREATE TABLE delivery (
    id bigint PRIMARY KEY,
    stored_at bigint NOT NULL,
    header bytea NOT NULL,
    -- The submission that it delivers.
    event_row bigint,
    -- Bit 0 content, bit 1 reporter.
    readable smallint NOT NULL
);

-- Chains of deliveries journals, computed by links.
CREATE TABLE mark (
    id bigint PRIMARY KEY,
    chain bytea NOT NULL
);

-- The directory, JSON rows.
CREATE TABLE registered_party (id text COLLATE "C" PRIMARY KEY, json text NOT NULL);
CREATE TABLE institution (code text COLLATE "C" PRIMARY KEY, json text NOT NULL);
CREATE TABLE revoked (
    serial text COLLATE "C" PRIMARY KEY,
    note text NOT NULL,
    revoked_at bigint NOT NULL
);

-- Institutions whose registration has changed and whose open complaints are
-- still to be told to whoever reads for them now.
CREATE TABLE retelling (
    code text COLLATE "C" PRIMARY KEY,
    -- The directory that asked for it last: only what it asked for is done.
    directory_version bigint NOT NULL
);

-- Local statuses without a row in their mapping table: work for a person.
CREATE TABLE work_item (
    party text COLLATE "C" NOT NULL,
    system text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    last_seen bigint NOT NULL,
    PRIMARY KEY (party, system, code, name)
);
