-- Hub: SHA-256 of each certificate that it issues: a serial number is unique
-- within one CA only. NULL: issued before.
ALTER TABLE issued_certificate ADD COLUMN digest BLOB;
