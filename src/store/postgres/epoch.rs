//! Epochs: how the operator ends one and begins the next after the database was
//! put back to an earlier state, and what the hub tells again in the new one.
//!
//! Invariants: nobody else is at work while epochs begin; epochs come from the
//! clock and only grow; of an epoch that ended its last places are kept; nothing
//! of it is changed or taken away, so dedup, complaints and Tracking IDs stay as
//! they are. What a node may not have of the ended epoch's deliveries is put, in
//! its order, before anything newer.

use crate::{
    domain::{Micros, PartyId},
    exchange::{Direction, Place},
    store::{EndedEpoch, Recovered, RecoveredParty, StoreError},
};

use super::{
    PostgresStore,
    connect::{Database, Settings},
    damaged, guard, journal,
    rows::{digest, number, party},
    schema,
    session::{Session, execute, maybe, one, rows},
};

/// Deliveries that are told again in one commit of a running hub.
const PAGE: u64 = 1_000;
/// Programs that know this version of the schema tell of ended epochs.
const KNOWS_EPOCHS: i32 = 4;

const PARTIES: &str = "SELECT party FROM submission_head ORDER BY party";

const NEWEST: &str = "SELECT greatest( \
     (SELECT max(w.stored_at) FROM submission_head h \
         JOIN submission w ON w.id = (h.journal << 36) | h.position), \
     (SELECT max(w.stored_at) FROM delivery_head h \
         JOIN delivery w ON w.id = (h.journal << 36) | h.position))";

const STANDING: &str = "SELECT s.epoch, s.journal, s.position, s.chain, d.journal, d.position, \
         greatest(h.position, h.consumed) \
     FROM submission_head s JOIN delivery_head d ON d.party = s.party \
         JOIN delivery_held h ON h.party = s.party WHERE s.party = $1";

const KEEP: &str = "INSERT INTO ended_epoch (party, epoch, submissions, head, head_chain, \
         deliveries, delivered, delivered_chain, told_from) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const BEGIN_JOURNAL: &str =
    "INSERT INTO journal (party, direction, epoch) VALUES ($1, $2, $3) RETURNING id";

const TELL_AGAIN: &str = "SELECT jembatan_tell_again_1($1, $2, $3, $4, $5, $6)";

const LACKING: &str = "SELECT epoch, told_from FROM ended_epoch \
     WHERE party = $1 AND epoch >= $2 ORDER BY epoch";

/// Begins a new epoch for every party, and takes back the invitations that
/// nobody has used, in one transaction. With `dry_run` nothing changes.
///
/// # Errors
/// [`StoreError::Invalid`] if a hub is at work, the schema does not fit, or no
/// hub has ever served from it; the database can't be reached, read or written.
/// If the answer to the commit is lost the error says so: beginning once more
/// does no harm.
pub async fn recover(
    settings: &Settings,
    now: Micros,
    dry_run: bool,
) -> Result<Recovered, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    let session = line.client();
    schema::must_fit(session).await?;
    guard::keep_others_out(&line).await?;
    execute(session, "BEGIN", &[]).await?;
    let done = begin_epochs(session, now).await?;
    if dry_run {
        execute(session, "ROLLBACK", &[]).await?;
        guard::let_others_in(&line).await?;
        return Ok(done);
    }
    execute(session, "COMMIT", &[]).await.map_err(|error| {
        let error = StoreError::from(error);
        StoreError::Unavailable(format!(
            "whether the new epoch has begun is not known ({error}): run it again"
        ))
    })?;
    if line.is_doubtful() {
        return Err(StoreError::Unavailable(
            "the new epoch has begun, but the server does not know whether its standbys have it: \
             see to them, then run it again"
                .to_owned(),
        ));
    }
    // It has begun, whatever becomes of this.
    let _ = guard::let_others_in(&line).await;
    Ok(done)
}

async fn begin_epochs(session: &Session, now: Micros) -> Result<Recovered, StoreError> {
    // What was decided by an earlier directory does not commit any more.
    let has_served = execute(
        session,
        "UPDATE node SET recovered = greatest(recovered + 1, $1), \
         directory_version = directory_version + 1",
        &[&now.0],
    )
    .await?;
    if has_served == 0 {
        return Err(StoreError::Invalid(
            "no hub has ever served from this database: there is nothing to recover".to_owned(),
        ));
    }
    let newest: Option<i64> = one(session, NEWEST, &[]).await?.try_get(0)?;
    let mut parties = Vec::new();
    for row in rows(session, PARTIES, &[]).await? {
        parties.push(begin_epoch(session, &party(&row, 0)?, now).await?);
    }
    // A code that was used after this state was kept would work once more.
    let invitations = execute(
        session,
        "UPDATE invitation SET revoked_at = $1 \
         WHERE revoked_at IS NULL AND used_at IS NULL AND expires_at > $1",
        &[&now.0],
    )
    .await?;
    execute(
        session,
        "UPDATE schema_use SET readable_from = greatest(readable_from, $1)",
        &[&KNOWS_EPOCHS],
    )
    .await?;
    // No hub of before comes back: each finds its row gone.
    execute(session, "DELETE FROM replica", &[]).await?;
    Ok(Recovered {
        copied_at: None,
        newest: newest.map(Micros),
        invitations,
        parties,
    })
}

async fn begin_epoch(
    session: &Session,
    party: &PartyId,
    now: Micros,
) -> Result<RecoveredParty, StoreError> {
    let name = party.as_str();
    let row = maybe(session, STANDING, &[&name]).await?;
    let row = row.ok_or_else(|| damaged("a party's journals"))?;
    let ended_epoch = number(&row, 0)?;
    let (submissions, head): (i64, u64) = (row.try_get(1)?, number(&row, 2)?);
    let head_chain: &[u8] = row.try_get(3)?;
    let (deliveries, delivered): (i64, u64) = (row.try_get(4)?, number(&row, 5)?);
    // What a link has acknowledged its node holds; of a party without a link it
    // is known how far its system has come.
    let told_from = number(&row, 6)?.min(delivered);
    let end = journal::walk_to(session, party, delivered).await?;
    let (end, _) = end.ok_or_else(|| damaged("the end of the deliveries"))?;
    execute(
        session,
        KEEP,
        &[
            &name,
            &(ended_epoch as i64),
            &submissions,
            &(head as i64),
            &head_chain,
            &deliveries,
            &(delivered as i64),
            &end.chain.as_bytes().as_slice(),
            // Until it is told again below.
            &(delivered as i64),
        ],
    )
    .await?;
    let epoch = ((now.0 / 1_000_000).max(1) as u64).max(ended_epoch + 1);
    enter(session, party, epoch).await?;
    let told = one(
        session,
        TELL_AGAIN,
        &[
            &name,
            &(ended_epoch as i64),
            &(told_from as i64),
            &(delivered as i64),
            &true,
            &(told_from as i64),
        ],
    )
    .await?;
    Ok(RecoveredParty {
        party: party.clone(),
        ended_epoch,
        epoch,
        submissions: head,
        deliveries: delivered,
        told_again: number(&told, 0)?,
    })
}

/// Both journals begin again.
async fn enter(session: &Session, party: &PartyId, epoch: u64) -> Result<(), StoreError> {
    let name = party.as_str();
    let mut journals = [0_i64; 2];
    for (journal, direction) in journals.iter_mut().zip([1_i16, 2]) {
        let begun = one(
            session,
            BEGIN_JOURNAL,
            &[&name, &direction, &(epoch as i64)],
        )
        .await?;
        *journal = begun.try_get(0)?;
    }
    let [up, down] = journals;
    let root = |direction| Place::root(party, direction, epoch).chain;
    execute(
        session,
        "UPDATE submission_head SET epoch = $2, journal = $3, position = 0, chain = $4, \
         token = NULL WHERE party = $1",
        &[
            &name,
            &(epoch as i64),
            &up,
            &root(Direction::Submissions).as_bytes().as_slice(),
        ],
    )
    .await?;
    execute(
        session,
        "UPDATE delivery_head SET epoch = $2, journal = $3, position = 0 WHERE party = $1",
        &[&name, &(epoch as i64), &down],
    )
    .await?;
    execute(
        session,
        "UPDATE delivery_held SET position = 0, chain = $2, consumed = 0 WHERE party = $1",
        &[&name, &root(Direction::Deliveries).as_bytes().as_slice()],
    )
    .await?;
    Ok(())
}

/// Where an epoch ended.
pub(super) async fn ended(
    session: &Session,
    party: &PartyId,
    epoch: u64,
) -> Result<Option<EndedEpoch>, StoreError> {
    let Ok(number_of) = i64::try_from(epoch) else {
        return Ok(None);
    };
    let found = maybe(
        session,
        "SELECT head, head_chain, delivered, delivered_chain FROM ended_epoch \
         WHERE party = $1 AND epoch = $2",
        &[&party.as_str(), &number_of],
    )
    .await?;
    let Some(row) = found else { return Ok(None) };
    let place = |column: usize| {
        Ok::<_, StoreError>(Place {
            position: number(&row, column)?,
            chain: digest(row.try_get(column + 1)?)?,
        })
    };
    Ok(Some(EndedEpoch {
        epoch,
        submissions: place(0)?,
        deliveries: place(2)?,
    }))
}

impl PostgresStore {
    /// What a node that comes from another epoch, and holds its deliveries
    /// through `received`, lacks of ended epochs beside what was told again
    /// already, follows what it is told now. A node that has lost its disk comes
    /// from epoch 0. Whatever comes twice, because this was cut, it knows again.
    pub(super) async fn tell_what_is_lacking(
        &self,
        party: &PartyId,
        node_epoch: u64,
        received: u64,
    ) -> Result<(), StoreError> {
        let name = party.as_str();
        let from = i64::try_from(node_epoch).unwrap_or(i64::MAX);
        let reader = self.small_write().await?;
        let mut is_told = false;
        for row in rows(&reader, LACKING, &[&name, &from]).await? {
            let (epoch, through) = (number(&row, 0)?, number(&row, 1)?);
            let after = if epoch == node_epoch { received } else { 0 };
            let mut done = after;
            while done < through {
                let next = through.min(done + PAGE);
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
                    &name,
                    &(epoch as i64),
                    &(done as i64),
                    &(next as i64),
                    &(next == through),
                    &(after as i64),
                ];
                one(&reader, TELL_AGAIN, &values).await?;
                (done, is_told) = (next, true);
            }
        }
        if is_told {
            self.shared.wakers.changed_here([party.clone()]);
        }
        Ok(())
    }
}
