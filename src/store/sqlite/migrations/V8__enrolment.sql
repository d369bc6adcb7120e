-- Hub: invitations to join. Of a code only a digest is kept.
CREATE TABLE invitation (
    id TEXT PRIMARY KEY,
    party TEXT NOT NULL,
    code_digest BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    used_at INTEGER,
    used_from TEXT,
    -- Of the public key: only the same one may come again.
    used_key BLOB,
    serial TEXT
) STRICT, WITHOUT ROWID;

-- Hub: certificates that it has issued, so that a revocation can name them.
CREATE TABLE issued_certificate (
    serial TEXT PRIMARY KEY,
    party TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    -- NULL: a renewal.
    invitation TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX issued_to ON issued_certificate (party, issued_at);

-- Hub: attempts to join that were refused, the newest ones only: strangers must
-- not be able to fill a disk.
CREATE TABLE refused_join (
    row INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    remote TEXT NOT NULL,
    party TEXT NOT NULL,
    invitation TEXT,
    reason TEXT NOT NULL
) STRICT;
