-- A row of a journal has the id (journal << 36) | position, so that journals
-- grow at their end whatever else is written. What is looked up by a random
-- key stands in two narrow tables of integers, one row a complaint as a rule.

CREATE TABLE node (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    role TEXT NOT NULL,
    instance_id BLOB NOT NULL,
    -- Key of the HMAC that stands in dedup; never leaves this store.
    dedup_key BLOB NOT NULL,
    probed_at INTEGER NOT NULL DEFAULT 0,
    national TEXT,
    -- Categories and routing rules, JSON.
    policy TEXT
) STRICT;

CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    party TEXT NOT NULL,
    -- 1 submissions, 2 deliveries, 3 own submissions that were set aside.
    direction INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    UNIQUE (party, direction, epoch)
) STRICT;

CREATE TABLE party_state (
    party TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    submissions INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    head INTEGER NOT NULL,
    head_chain BLOB NOT NULL,
    acknowledged INTEGER NOT NULL,
    acknowledged_chain BLOB NOT NULL,
    delivered INTEGER NOT NULL,
    delivered_acknowledged INTEGER NOT NULL,
    delivered_acknowledged_chain BLOB NOT NULL,
    consumed INTEGER NOT NULL,
    token BLOB,
    copy_first INTEGER,
    copy_last INTEGER,
    copy_chain BLOB,
    aside_journal INTEGER NOT NULL DEFAULT 0,
    aside_from INTEGER NOT NULL DEFAULT 0,
    aside_to INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0,
    repeated INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE submission (
    id INTEGER PRIMARY KEY,
    stored_at INTEGER NOT NULL,
    event_id BLOB,
    -- HMAC of the hand-over digest, cut to 16 bytes: for ever, so that the same
    -- content is known again after the digest was erased.
    mac BLOB,
    -- Adapter only.
    complaint_id BLOB,
    event BLOB NOT NULL,
    -- Erased with the parts.
    handover_digest BLOB,
    chain BLOB NOT NULL,
    -- Adapter only: what the event changes here once it is accepted, JSON.
    effect TEXT
) STRICT;

-- For ever: where an event stands, by 63 bits of its id; the row says whether
-- it is that event (the next key is tried otherwise). A filing whose key is its
-- reference is found by its complaint and needs no row here.
CREATE TABLE event_key (
    key INTEGER PRIMARY KEY,
    row INTEGER NOT NULL
) STRICT;

-- For ever: where a complaint stands, by the number of its Tracking ID.
-- Hub: complaint.id; adapter: complaint_view.id.
CREATE TABLE complaint_key (
    key INTEGER PRIMARY KEY,
    complaint INTEGER NOT NULL
) STRICT;

-- Submissions of a complaint beside its filing. Adapter: all; hub: those that
-- repeat another one.
CREATE TABLE event_of (
    complaint INTEGER NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (complaint, row)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    stored_at INTEGER NOT NULL,
    header BLOB NOT NULL,
    -- Hub: the submission that it delivers.
    event_row INTEGER,
    -- Adapter: the event's bytes, as they came.
    event BLOB,
    -- Hub: bit 0 content, bit 1 reporter.
    readable INTEGER NOT NULL DEFAULT 3
) STRICT;

-- Chains of a deliveries journal, here and there: computed by links.
CREATE TABLE mark (
    id INTEGER PRIMARY KEY,
    chain BLOB NOT NULL
) STRICT;

-- id: (row << 2) | place among the event's parts. No bytes and not erased:
-- withheld from this node.
CREATE TABLE part (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    bytes BLOB,
    erased_by BLOB
) STRICT;

CREATE TABLE decision (
    row INTEGER PRIMARY KEY,
    outcome INTEGER NOT NULL,
    event_id BLOB,
    complaint_id BLOB,
    revision INTEGER NOT NULL,
    status TEXT,
    handler TEXT,
    tracking_id TEXT,
    duplicate_of INTEGER NOT NULL,
    rejection TEXT,
    stored_digest BLOB,
    refused_digest BLOB,
    answer_missing INTEGER NOT NULL
) STRICT;

-- Hub: the revisions of a complaint after its filing, which stands in the
-- complaint. Adapter: those that were delivered.
CREATE TABLE history (
    complaint INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    row INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    author TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    hops INTEGER NOT NULL,
    header TEXT,
    PRIMARY KEY (complaint, revision)
) STRICT, WITHOUT ROWID;

-- References that a party attached to a complaint that it did not file; the
-- origin's own is found by the id that is derived from it.
CREATE TABLE reference (
    party TEXT NOT NULL,
    system TEXT NOT NULL,
    reference TEXT NOT NULL,
    complaint_id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (party, system, reference),
    -- No second name for it in the same system.
    UNIQUE (party, complaint_id, system)
) STRICT, WITHOUT ROWID;

CREATE INDEX reference_by_complaint ON reference (party, complaint_id);

-- Hub. The id is the row of the filing, so that complaints grow at their end.
CREATE TABLE complaint (
    id INTEGER PRIMARY KEY,
    complaint_id BLOB NOT NULL,
    is_open INTEGER NOT NULL,
    handler TEXT,
    state TEXT NOT NULL
) STRICT;

CREATE INDEX complaint_open ON complaint (handler) WHERE is_open = 1;

-- Adapter: a complaint by the hub's word, as one party knows it.
CREATE TABLE complaint_view (
    id INTEGER PRIMARY KEY,
    complaint_id BLOB NOT NULL,
    party TEXT NOT NULL,
    filed_row INTEGER,
    origin_party TEXT,
    origin_system TEXT,
    origin_reference TEXT,
    tracking_id TEXT,
    status TEXT,
    handler TEXT,
    revision INTEGER NOT NULL DEFAULT 0,
    anonymous INTEGER NOT NULL DEFAULT 0,
    confidential INTEGER NOT NULL DEFAULT 0,
    answer_missing INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Hub: the directory, JSON rows.
CREATE TABLE registered_party (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE institution (code TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE revoked (
    serial TEXT PRIMARY KEY,
    note TEXT NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
