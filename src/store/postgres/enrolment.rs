//! Invitations, issued certificates and refused attempts as rows.
//!
//! Each change is one statement, so that of two replicas that issue for one
//! invitation at once the row's lock lets one win. Those that somebody outside is
//! answered by are durable on the standbys too, and may be carried out twice.

use tokio_postgres::{Row, types::ToSql};

use crate::{
    domain::{Micros, PartyId},
    store::{Invitation, InvitationUse, IssuedCertificate, RefusedJoin, StoreError},
};

use super::{
    connect::Database,
    rows::{digest, party},
    session::{Session, execute, maybe, rows},
};

/// Rows that one list shows.
const LISTED: i64 = 1_000;
/// Refused attempts that are kept.
const REFUSED_KEPT: i64 = 1_000;
/// Refused attempts that are shown.
const REFUSED_SHOWN: i64 = 100;

const INVITATION: &str = "SELECT id, party, code_digest, made_at, expires_at, revoked_at, used_at, used_from, \
     used_key, serial FROM invitation WHERE id = $1";

const INVITATIONS: &str = "SELECT id, party, code_digest, made_at, expires_at, revoked_at, used_at, used_from, \
     used_key, serial FROM invitation ORDER BY made_at DESC, id LIMIT $1";

// A second time writes the same once more.
const INVITE: &str = "INSERT INTO invitation AS kept (id, party, code_digest, made_at, expires_at) \
     VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (id) DO UPDATE SET made_at = excluded.made_at \
     WHERE kept.code_digest = excluded.code_digest";

const REVOKE: &str = "UPDATE invitation SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";

const ISSUE: &str = "INSERT INTO issued_certificate AS kept \
         (serial, party, issued_at, ends_at, invitation, digest) \
     VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (serial) DO UPDATE SET issued_at = excluded.issued_at \
     WHERE kept.party = excluded.party";

const ISSUE_FOR: &str = "WITH used AS ( \
         UPDATE invitation SET used_at = coalesce(used_at, $7), used_from = $8, used_key = $9, \
             serial = $10 \
         WHERE id = $5 AND revoked_at IS NULL AND expires_at > $7 \
             AND (used_key IS NULL OR used_key = $9) RETURNING id) \
     INSERT INTO issued_certificate AS kept \
         (serial, party, issued_at, ends_at, invitation, digest) \
     SELECT $1, $2, $3, $4, id, $6 FROM used \
     ON CONFLICT (serial) DO UPDATE SET issued_at = excluded.issued_at \
     WHERE kept.party = excluded.party";

// What another caller is just removing is left to it: nobody waits. Nor is a standby
// waited for: strangers would hold connections while it is away.
const NOTE_REFUSED: &str = "WITH new AS ( \
         INSERT INTO refused_join (at, remote, party, invitation, reason) \
         SELECT $1::bigint, $2::text, $3::text, $4::text, $5::text \
         FROM set_config('synchronous_commit', 'local', true) RETURNING row) \
     DELETE FROM refused_join WHERE row IN ( \
         SELECT row FROM refused_join WHERE row <= (SELECT row FROM new) - $6::bigint \
         FOR UPDATE SKIP LOCKED)";

pub(super) async fn put(database: &Database, new: &Invitation) -> Result<(), StoreError> {
    let values: [&(dyn ToSql + Sync); 5] = [
        &new.id,
        &new.party.as_str(),
        &new.code_digest.as_bytes().as_slice(),
        &new.made_at.0,
        &new.expires_at.0,
    ];
    match database.execute_durably(INVITE, &values).await? {
        0 => Err(StoreError::Invalid(
            "an invitation of this id is there already".to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(super) async fn revoke(database: &Database, id: &str, now: Micros) -> Result<bool, StoreError> {
    Ok(database.execute_durably(REVOKE, &[&id, &now.0]).await? > 0)
}

pub(super) async fn record_issued(
    database: &Database,
    new: &IssuedCertificate,
    used: Option<&InvitationUse>,
) -> Result<bool, StoreError> {
    let party = new.party.as_str();
    let digest = new
        .digest
        .as_ref()
        .map(|digest| digest.as_bytes().as_slice());
    let certificate: [&(dyn ToSql + Sync); 6] = [
        &new.serial,
        &party,
        &new.issued_at.0,
        &new.ends_at.0,
        &new.invitation,
        &digest,
    ];
    let issued = match used.filter(|_| new.invitation.is_some()) {
        None => database.execute_durably(ISSUE, &certificate).await?,
        Some(used) => {
            let key = used.key_digest.as_bytes().as_slice();
            let how: [&(dyn ToSql + Sync); 4] = [&used.at.0, &used.from, &key, &used.serial];
            let both = [&certificate[..], &how[..]].concat();
            database.execute_durably(ISSUE_FOR, &both).await?
        }
    };
    Ok(issued == 1)
}

pub(super) async fn note_refused(
    client: &Session,
    refused: &RefusedJoin,
) -> Result<(), StoreError> {
    // A text column holds no NUL, and a stranger may send one.
    let named = refused.party.replace('\0', "\u{fffd}");
    execute(
        client,
        NOTE_REFUSED,
        &[
            &refused.at.0,
            &refused.remote,
            &named,
            &refused.invitation,
            &refused.reason,
            &REFUSED_KEPT,
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn invitation(
    client: &Session,
    id: &str,
) -> Result<Option<Invitation>, StoreError> {
    let found = maybe(client, INVITATION, &[&id]).await?;
    found.as_ref().map(invitation_of).transpose()
}

pub(super) async fn invitations(client: &Session) -> Result<Vec<Invitation>, StoreError> {
    let found = rows(client, INVITATIONS, &[&LISTED]).await?;
    found.iter().map(invitation_of).collect()
}

fn invitation_of(row: &Row) -> Result<Invitation, StoreError> {
    let used = match row.try_get::<_, Option<i64>>(6)? {
        None => None,
        Some(at) => Some(InvitationUse {
            at: Micros(at),
            from: row.try_get(7)?,
            key_digest: digest(row.try_get(8)?)?,
            serial: row.try_get(9)?,
        }),
    };
    Ok(Invitation {
        id: row.try_get(0)?,
        party: party(row, 1)?,
        code_digest: digest(row.try_get(2)?)?,
        made_at: Micros(row.try_get(3)?),
        expires_at: Micros(row.try_get(4)?),
        revoked_at: row.try_get::<_, Option<i64>>(5)?.map(Micros),
        used,
    })
}

pub(super) async fn issued_to(
    client: &Session,
    to: &PartyId,
) -> Result<Vec<IssuedCertificate>, StoreError> {
    let found = rows(
        client,
        "SELECT serial, party, issued_at, ends_at, invitation, digest FROM issued_certificate \
         WHERE party = $1 ORDER BY issued_at DESC, serial LIMIT $2",
        &[&to.as_str(), &LISTED],
    )
    .await?;
    let issued = found.iter().map(|row| {
        Ok(IssuedCertificate {
            serial: row.try_get(0)?,
            digest: row
                .try_get::<_, Option<&[u8]>>(5)?
                .map(digest)
                .transpose()?,
            party: party(row, 1)?,
            issued_at: Micros(row.try_get(2)?),
            ends_at: Micros(row.try_get(3)?),
            invitation: row.try_get(4)?,
        })
    });
    issued.collect()
}

pub(super) async fn refused_joins(client: &Session) -> Result<Vec<RefusedJoin>, StoreError> {
    let found = rows(
        client,
        "SELECT at, remote, party, invitation, reason FROM refused_join ORDER BY row DESC LIMIT $1",
        &[&REFUSED_SHOWN],
    )
    .await?;
    let refused = found.iter().map(|row| {
        Ok(RefusedJoin {
            at: Micros(row.try_get(0)?),
            remote: row.try_get(1)?,
            party: row.try_get(2)?,
            invitation: row.try_get(3)?,
            reason: row.try_get(4)?,
        })
    });
    refused.collect()
}
