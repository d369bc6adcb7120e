-- Parts stand in the row of their event: kind, state (0 withheld, 1 present,
-- 2 erased), SHA-256, then length and bytes, or the event that erased them.
ALTER TABLE submission ADD COLUMN parts BLOB;
-- Adapter: the parts of a delivered event.
ALTER TABLE delivery ADD COLUMN parts BLOB;

UPDATE submission SET parts = (
    SELECT unhex(group_concat(
        printf('%02X%02X', kind, CASE WHEN erased_by IS NOT NULL THEN 2
            WHEN bytes IS NOT NULL THEN 1 ELSE 0 END)
        || hex(sha256)
        || CASE WHEN erased_by IS NOT NULL THEN hex(erased_by)
            WHEN bytes IS NOT NULL THEN printf('%08X', length(bytes)) || hex(bytes)
            ELSE '' END, '' ORDER BY id))
    FROM part WHERE id BETWEEN submission.id * 4 AND submission.id * 4 + 3
);

UPDATE delivery SET parts = (
    SELECT unhex(group_concat(
        printf('%02X%02X', kind, CASE WHEN erased_by IS NOT NULL THEN 2
            WHEN bytes IS NOT NULL THEN 1 ELSE 0 END)
        || hex(sha256)
        || CASE WHEN erased_by IS NOT NULL THEN hex(erased_by)
            WHEN bytes IS NOT NULL THEN printf('%08X', length(bytes)) || hex(bytes)
            ELSE '' END, '' ORDER BY id))
    FROM part WHERE id BETWEEN delivery.id * 4 AND delivery.id * 4 + 3
);

DROP TABLE part;

-- Keys that are not in their tables yet: (key, value) of 8 bytes each, the
-- highest bit of a key set for complaint_key. A row a commit.
CREATE TABLE key_log (
    seq INTEGER PRIMARY KEY,
    keys BLOB NOT NULL
) STRICT;
