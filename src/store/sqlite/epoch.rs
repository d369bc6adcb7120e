//! Epochs: how the hub's operator ends one and begins the next after the hub
//! went back, and what the hub tells again in the new one.
//!
//! Invariants: epochs come from the clock and only grow; of an epoch that
//! ended its last places are kept; nothing of it is changed or taken away, so
//! dedup, complaints and Tracking IDs stay as they are. What a node may not
//! have of the ended epoch's deliveries is put, in its order, before anything
//! newer: a node hands over what it has not handed over before.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::{
    domain::{Micros, PartyId},
    exchange::{Direction, Place},
    store::{EndedEpoch, Recovered, RecoveredParty, StoreError, memory::Fresh},
};

use super::{
    NodeRole, blob16, damaged, digest,
    journal::{PartyState, journal_of, load_state, put_journal, row_id, save_state},
    view::delivery_place,
    writer::Tx,
};

/// Deliveries that are told again in one transaction of a running hub.
const RETELL_PAGE: u64 = 1_000;

/// Begins a new epoch for every party of a hub that does not run, takes back the
/// invitations that nobody has used, and takes the mark of a copy away, in one
/// transaction. With `dry_run` nothing changes.
///
/// # Errors
/// [`StoreError::Invalid`] if a node runs there, or it is no hub's store; the
/// store can't be read or written.
pub fn recover(directory: PathBuf, now: Micros, dry_run: bool) -> Result<Recovered, StoreError> {
    let (_lock, mut connection) = super::backup::open_existing(&directory, NodeRole::Hub)?;
    let copied_at: Option<i64> =
        connection.query_row("SELECT copied_at FROM node", [], |row| row.get(0))?;
    let transaction = connection.transaction()?;
    let newest = newest(&transaction)?;
    let mut parties = Vec::new();
    for party in parties_of(&transaction)? {
        parties.push(begin_epoch(&transaction, &party, now)?);
    }
    // A code that was used after this state was kept would work once more.
    let invitations = transaction.execute(
        "UPDATE invitation SET revoked_at = ?1 \
         WHERE revoked_at IS NULL AND used_at IS NULL AND expires_at > ?1",
        [now.0],
    )? as u64;
    transaction.execute("UPDATE node SET copied_at = NULL", [])?;
    if dry_run {
        transaction.rollback()?;
    } else {
        transaction.commit()?;
        connection.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
    }
    Ok(Recovered {
        copied_at: copied_at.map(Micros),
        newest,
        invitations,
        parties,
    })
}

fn parties_of(connection: &Connection) -> Result<Vec<PartyId>, StoreError> {
    let mut statement = connection.prepare("SELECT party FROM party_state ORDER BY party")?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    names
        .iter()
        .map(|name| PartyId::parse(name).map_err(|_| damaged("a party's id")))
        .collect()
}

fn newest(connection: &Connection) -> Result<Option<Micros>, StoreError> {
    let mut newest = None;
    for party in parties_of(connection)? {
        let Some(state) = load_state(connection, &party)? else {
            continue;
        };
        for (direction, table) in [
            (Direction::Submissions, "submission"),
            (Direction::Deliveries, "delivery"),
        ] {
            let row = state.row(direction, state.head_of(direction));
            let stored_at: Option<i64> = connection
                .prepare_cached(&format!("SELECT stored_at FROM {table} WHERE id = ?1"))?
                .query_row([row], |found| found.get(0))
                .optional()?;
            newest = newest.max(stored_at);
        }
    }
    Ok(newest.map(Micros))
}

fn begin_epoch(
    transaction: &Transaction<'_>,
    party: &PartyId,
    now: Micros,
) -> Result<RecoveredParty, StoreError> {
    let ended = load_state(transaction, party)?.ok_or_else(|| damaged("a party's state"))?;
    let (deliveries, _) = delivery_place(transaction, &ended, ended.delivered)?
        .ok_or_else(|| damaged("the end of the deliveries"))?;
    // What a link has acknowledged its node holds; of a party without a link
    // it is known how far its system has come.
    let told_from = ended.delivered_acknowledged.position.max(ended.consumed);
    keep_ended(transaction, &ended, deliveries, told_from)?;
    let epoch = ((now.0 / 1_000_000).max(1) as u64).max(ended.epoch + 1);
    let mut state = ended.clone();
    enter(transaction, &mut state, epoch)?;
    state.token = None;
    let told_again = retell(
        transaction,
        &mut state,
        &ended,
        (told_from, ended.delivered),
    )?;
    save_state(transaction, &state)?;
    Ok(RecoveredParty {
        party: party.clone(),
        ended_epoch: ended.epoch,
        epoch,
        submissions: ended.head.position,
        deliveries: ended.delivered,
        told_again,
    })
}

/// Both journals begin again.
pub(super) fn enter(
    connection: &Connection,
    state: &mut PartyState,
    epoch: u64,
) -> Result<(), StoreError> {
    let party = state.party.clone();
    state.epoch = epoch;
    state.submissions = put_journal(connection, &party, Direction::Submissions.number(), epoch)?;
    state.deliveries = put_journal(connection, &party, Direction::Deliveries.number(), epoch)?;
    state.head = Place::root(&party, Direction::Submissions, epoch);
    state.acknowledged = state.head;
    state.delivered = 0;
    state.delivered_acknowledged = Place::root(&party, Direction::Deliveries, epoch);
    state.consumed = 0;
    state.copy = None;
    Ok(())
}

/// Keeps where an epoch ended.
pub(super) fn keep_ended(
    connection: &Connection,
    ended: &PartyState,
    deliveries: Place,
    told_from: u64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO ended_epoch (party, epoch, submissions, head, head_chain, \
             deliveries, delivered, delivered_chain, consumed, told_from) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            ended.party.as_str(),
            ended.epoch as i64,
            ended.submissions,
            ended.head.position as i64,
            ended.head.chain.as_bytes(),
            ended.deliveries,
            deliveries.position as i64,
            deliveries.chain.as_bytes(),
            ended.consumed.min(ended.delivered) as i64,
            told_from as i64,
        ])?;
    Ok(())
}

/// Puts deliveries of an ended epoch, after the first position and through the
/// last, at the end of the epoch in force. Says how many.
fn retell(
    connection: &Connection,
    state: &mut PartyState,
    ended: &PartyState,
    (after, through): (u64, u64),
) -> Result<u64, StoreError> {
    if through <= after {
        return Ok(0);
    }
    let from = row_id(ended.deliveries, after + 1);
    let shift = row_id(state.deliveries, state.delivered + 1) - from;
    let told = connection
        .prepare_cached(
            "INSERT INTO delivery (id, stored_at, header, event_row, event, readable) \
             SELECT id + ?3, stored_at, header, event_row, event, readable \
             FROM delivery WHERE id BETWEEN ?1 AND ?2",
        )?
        .execute([from, row_id(ended.deliveries, through), shift])? as u64;
    if told != through - after {
        return Err(damaged("deliveries of the epoch that ended are missing"));
    }
    state.delivered += told;
    Ok(told)
}

/// Where an epoch ended.
pub(super) fn ended(
    connection: &Connection,
    party: &PartyId,
    epoch: u64,
) -> Result<Option<EndedEpoch>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT head, head_chain, delivered, delivered_chain FROM ended_epoch \
             WHERE party = ?1 AND epoch = ?2",
        )?
        .query_row(params![party.as_str(), epoch as i64], |row| {
            let place = |position: i64, chain: Vec<u8>| -> Result<Place, rusqlite::Error> {
                Ok(Place {
                    position: position as u64,
                    chain: digest(&chain)?,
                })
            };
            Ok(EndedEpoch {
                epoch,
                submissions: place(row.get(0)?, row.get(1)?)?,
                deliveries: place(row.get(2)?, row.get(3)?)?,
            })
        })
        .optional()?;
    Ok(found)
}

/// The party whose journal a row stands in.
pub(super) fn party_of_row(
    connection: &Connection,
    row: i64,
) -> Result<Option<String>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT party FROM journal WHERE id = ?1")?
        .query_row([journal_of(row)], |found| found.get(0))
        .optional()?)
}

/// Deliveries of an ended epoch that a node may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lacking {
    epoch: u64,
    deliveries: i64,
    after: u64,
    through: u64,
}

impl Lacking {
    /// The node holds everything through here.
    pub(super) fn after(&self) -> u64 {
        self.after
    }
}

/// What a node that comes from another epoch, and holds its deliveries through
/// `received`, lacks of ended epochs beside what was told again already. A
/// node that has lost its disk comes from epoch 0.
pub(super) fn lacking(
    connection: &Connection,
    party: &PartyId,
    node_epoch: u64,
    received: u64,
) -> Result<Vec<Lacking>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT epoch, deliveries, told_from FROM ended_epoch \
         WHERE party = ?1 AND epoch >= ?2 ORDER BY epoch",
    )?;
    let found = statement.query_map(params![party.as_str(), node_epoch as i64], |row| {
        let epoch = row.get::<_, i64>(0)? as u64;
        Ok(Lacking {
            epoch,
            deliveries: row.get(1)?,
            after: if epoch == node_epoch { received } else { 0 },
            through: row.get::<_, i64>(2)? as u64,
        })
    })?;
    let mut all = Vec::new();
    for lacking in found {
        let lacking = lacking?;
        if lacking.after < lacking.through {
            all.push(lacking);
        }
    }
    Ok(all)
}

impl Tx<'_> {
    /// Hub: a page of what a node lacks follows what it is told now; `None`:
    /// nothing is left. Whatever comes twice, because this was cut, the node
    /// knows again.
    pub(super) fn catch_up(
        &mut self,
        party: &PartyId,
        lacking: Lacking,
        done: u64,
    ) -> Result<Option<u64>, StoreError> {
        let through = lacking.through.min(done + RETELL_PAGE);
        let mut state = self.state(party)?.clone();
        let ended = PartyState {
            deliveries: lacking.deliveries,
            ..state.clone()
        };
        retell(self.connection, &mut state, &ended, (done, through))?;
        *self.state(party)? = state;
        self.fresh.push(Fresh::Forget(party.clone()));
        self.touch(party);
        if through < lacking.through {
            return Ok(Some(through));
        }
        self.connection
            .prepare_cached(
                "UPDATE ended_epoch SET told_from = ?3 WHERE party = ?1 AND epoch = ?2",
            )?
            .execute(params![
                party.as_str(),
                lacking.epoch as i64,
                lacking.after as i64
            ])?;
        Ok(None)
    }

    /// Adapter: whether this party has been in an epoch before this one.
    pub(super) fn has_ended_epochs(&self, party: &PartyId) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM ended_epoch WHERE party = ?1 LIMIT 1")?
            .exists([party.as_str()])?)
    }

    /// Adapter: all submissions of this party that stand in a journal of its
    /// own, the oldest first.
    pub(super) fn own_submissions(&self, party: &PartyId) -> Result<Vec<i64>, StoreError> {
        let mut rows = Vec::new();
        for journal in self.submission_journals(party)? {
            let mut statement = self.connection.prepare_cached(
                "SELECT id FROM submission WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
            )?;
            let found = statement
                .query_map([row_id(journal, 0), row_id(journal + 1, 0) - 1], |row| {
                    row.get(0)
                })?;
            for row in found {
                rows.push(row?);
            }
        }
        Ok(rows)
    }

    /// Adapter: the row in which this event was delivered before, and the
    /// revision that it had then, if it still has one.
    pub(super) fn told_event(
        &self,
        view: i64,
        event_id: &[u8],
    ) -> Result<Option<(i64, Option<u32>)>, StoreError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT row, revision FROM history WHERE complaint = ?1 AND event_id = ?2 \
                 UNION ALL SELECT row, NULL FROM told_before \
                 WHERE complaint = ?1 AND event_id = ?2 LIMIT 1",
            )?
            .query_row(params![view, event_id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found)
    }

    /// Adapter: in this epoch a revision is another event's. The one that had
    /// it is remembered as told, and an older revision of this event goes.
    pub(super) fn make_room(
        &self,
        view: i64,
        revision: u32,
        event_id: &[u8],
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO told_before (complaint, event_id, row) \
                 SELECT complaint, event_id, row FROM history \
                 WHERE complaint = ?1 AND revision = ?2 AND event_id <> ?3",
            )?
            .execute(params![view, revision, event_id])?;
        self.connection
            .prepare_cached(
                "DELETE FROM history WHERE complaint = ?1 AND \
                 ((revision = ?2 AND event_id <> ?3) OR (revision <> ?2 AND event_id = ?3))",
            )?
            .execute(params![view, revision, event_id])?;
        Ok(())
    }
}

/// The node's own row says whether it is a copy that nobody has recovered.
pub(super) fn check_mark(
    connection: &Connection,
    role: NodeRole,
    directory: &std::path::Path,
) -> Result<(), StoreError> {
    let copied_at: Option<i64> =
        connection.query_row("SELECT copied_at FROM node", [], |row| row.get(0))?;
    match (copied_at, role) {
        (None, _) => Ok(()),
        (Some(_), NodeRole::Hub) => Err(StoreError::Invalid(format!(
            "{} holds a copy that `jembatan backup` made: the adapters may know more than it does. \
             Stop here, look with `jembatan recover --config hub.toml --dry-run` at what is kept, \
             then begin a new epoch with `jembatan recover --config hub.toml` and start again",
            directory.display()
        ))),
        (Some(_), NodeRole::Adapter) => {
            // The rules of opening take back what the hub has.
            tracing::warn!(
                event = "started_from_a_copy",
                "this store is a copy: the link takes back from the hub what the copy lacks"
            );
            connection.execute("UPDATE node SET copied_at = NULL", [])?;
            Ok(())
        }
    }
}

/// The instance of a store and its role, from its own row.
pub(super) fn own_row(connection: &Connection) -> Result<(String, [u8; 16]), StoreError> {
    let (role, instance): (String, Vec<u8>) =
        connection.query_row("SELECT role, instance_id FROM node", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok((role, blob16(&instance)?))
}
