-- SHA-256 of each certificate that a hub issues: a serial number is unique within
-- one CA only. NULL: issued before, or by a program that knows only what was there
-- before; such programs serve on.
ALTER TABLE issued_certificate ADD COLUMN digest bytea;
