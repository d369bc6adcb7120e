//! Invitations, issued certificates and refused attempts as rows.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{Digest, Micros, PartyId},
    store::{Invitation, InvitationUse, IssuedCertificate, RefusedJoin, StoreError},
};

use super::{damaged, writer::Tx};

/// Rows that one list shows.
const LISTED: i64 = 1_000;
/// Refused attempts that are kept.
const REFUSED_KEPT: i64 = 1_000;
/// Refused attempts that are shown.
const REFUSED_SHOWN: i64 = 100;

const INVITATION: &str = "SELECT id, party, code_digest, made_at, expires_at, revoked_at, \
                          used_at, used_from, used_key, serial FROM invitation";

impl Tx<'_> {
    pub(super) fn put_invitation(&mut self, new: &Invitation) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO invitation (id, party, code_digest, made_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                new.id,
                new.party.as_str(),
                new.code_digest.as_bytes(),
                new.made_at.0,
                new.expires_at.0
            ],
        )?;
        Ok(())
    }

    pub(super) fn revoke_invitation(&mut self, id: &str, now: Micros) -> Result<bool, StoreError> {
        let changed = self.connection.execute(
            "UPDATE invitation SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1",
            params![id, now.0],
        )?;
        Ok(changed > 0)
    }

    pub(super) fn record_issued(
        &mut self,
        new: &IssuedCertificate,
        used: Option<&InvitationUse>,
    ) -> Result<bool, StoreError> {
        if let (Some(id), Some(used)) = (&new.invitation, used) {
            let changed = self.connection.execute(
                "UPDATE invitation SET used_at = coalesce(used_at, ?2), used_from = ?3, \
                 used_key = ?4, serial = ?5 WHERE id = ?1 AND revoked_at IS NULL \
                 AND expires_at > ?2 AND (used_key IS NULL OR used_key = ?4)",
                params![
                    id,
                    used.at.0,
                    used.from,
                    used.key_digest.as_bytes(),
                    used.serial
                ],
            )?;
            if changed == 0 {
                return Ok(false);
            }
        }
        self.connection.execute(
            "INSERT INTO issued_certificate \
             (serial, party, issued_at, ends_at, invitation, digest) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                new.serial,
                new.party.as_str(),
                new.issued_at.0,
                new.ends_at.0,
                new.invitation,
                new.digest.as_ref().map(Digest::as_bytes)
            ],
        )?;
        Ok(true)
    }

    pub(super) fn note_refused_join(&mut self, refused: &RefusedJoin) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO refused_join (at, remote, party, invitation, reason) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                refused.at.0,
                refused.remote,
                refused.party,
                refused.invitation,
                refused.reason
            ],
        )?;
        let newest = self.connection.last_insert_rowid();
        self.connection.execute(
            "DELETE FROM refused_join WHERE row <= ?1",
            [newest - REFUSED_KEPT],
        )?;
        Ok(())
    }
}

pub(super) fn invitation(
    connection: &Connection,
    id: &str,
) -> Result<Option<Invitation>, StoreError> {
    let found = connection
        .prepare_cached(&format!("{INVITATION} WHERE id = ?1"))?
        .query_row([id], |row| Ok(of_row(row)))
        .optional()?;
    found.transpose()
}

pub(super) fn invitations(connection: &Connection) -> Result<Vec<Invitation>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "{INVITATION} ORDER BY made_at DESC, id LIMIT {LISTED}"
    ))?;
    let found = statement.query_map([], |row| Ok(of_row(row)))?;
    found.map(|row| row?).collect()
}

fn of_row(row: &Row<'_>) -> Result<Invitation, StoreError> {
    let used_at: Option<i64> = row.get(6)?;
    let used = match used_at {
        None => None,
        Some(at) => Some(InvitationUse {
            at: Micros(at),
            from: row.get(7)?,
            key_digest: digest_of(row.get(8)?)?,
            serial: row.get(9)?,
        }),
    };
    Ok(Invitation {
        id: row.get(0)?,
        party: party(&row.get::<_, String>(1)?)?,
        code_digest: digest_of(row.get(2)?)?,
        made_at: Micros(row.get(3)?),
        expires_at: Micros(row.get(4)?),
        revoked_at: row.get::<_, Option<i64>>(5)?.map(Micros),
        used,
    })
}

pub(super) fn issued_to(
    connection: &Connection,
    to: &PartyId,
) -> Result<Vec<IssuedCertificate>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT serial, issued_at, ends_at, invitation, digest FROM issued_certificate \
         WHERE party = ?1 ORDER BY issued_at DESC, serial LIMIT ?2",
    )?;
    let mut found = statement.query(params![to.as_str(), LISTED])?;
    let mut issued = Vec::new();
    while let Some(row) = found.next()? {
        let digest: Option<Vec<u8>> = row.get(4)?;
        issued.push(IssuedCertificate {
            serial: row.get(0)?,
            digest: digest.map(digest_of).transpose()?,
            party: to.clone(),
            issued_at: Micros(row.get(1)?),
            ends_at: Micros(row.get(2)?),
            invitation: row.get(3)?,
        });
    }
    Ok(issued)
}

pub(super) fn refused_joins(connection: &Connection) -> Result<Vec<RefusedJoin>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT at, remote, party, invitation, reason FROM refused_join ORDER BY row DESC LIMIT ?1",
    )?;
    let found = statement.query_map([REFUSED_SHOWN], |row| {
        Ok(RefusedJoin {
            at: Micros(row.get(0)?),
            remote: row.get(1)?,
            party: row.get(2)?,
            invitation: row.get(3)?,
            reason: row.get(4)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn digest_of(bytes: Vec<u8>) -> Result<Digest, StoreError> {
    Digest::from_slice(&bytes).ok_or_else(|| damaged("a digest of an invitation"))
}

fn party(text: &str) -> Result<PartyId, StoreError> {
    PartyId::parse(text).map_err(|_| damaged("the party of an invitation"))
}
