//! What an ended epoch left in the inbox of a node: it is handed over before
//! anything of the epoch in force, under the cursors that it had.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::PartyId,
    exchange::Direction,
    store::{EarlierInbox, JournalEntry, StoreError},
};

use super::{
    damaged,
    journal::{PartyState, load_state, read},
    writer::Tx,
};

/// Parties of a node with something left of an ended epoch.
pub(super) fn parties_with_earlier(
    connection: &Connection,
) -> Result<BTreeSet<PartyId>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT party FROM ended_epoch WHERE consumed < delivered")?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    names
        .iter()
        .map(|name| PartyId::parse(name).map_err(|_| damaged("a party's id")))
        .collect()
}

/// The inboxes that are not consumed to their end, the oldest first.
pub(super) fn earlier(
    connection: &Connection,
    party: &PartyId,
) -> Result<Vec<EarlierInbox>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT epoch, delivered, consumed FROM ended_epoch \
         WHERE party = ?1 AND consumed < delivered ORDER BY epoch",
    )?;
    let found = statement.query_map([party.as_str()], |row| {
        let number = |index| row.get::<_, i64>(index).map(|value| value as u64);
        Ok(EarlierInbox {
            epoch: number(0)?,
            head: number(1)?,
            consumed_through: number(2)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Whether this party has been in this epoch here.
pub(super) fn knows_epoch(
    connection: &Connection,
    party: &PartyId,
    epoch: u64,
) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM journal WHERE party = ?1 AND direction = 2 AND epoch = ?2")?
        .exists(params![party.as_str(), epoch as i64])?)
}

/// Deliveries of an ended epoch, as [`read`] reads those of the one in force.
pub(super) fn read_earlier(
    connection: &Connection,
    party: &PartyId,
    (epoch, from): (u64, u64),
    (max_entries, max_bytes): (usize, usize),
) -> Result<Vec<JournalEntry>, StoreError> {
    let Some(state) = load_state(connection, party)? else {
        return Ok(Vec::new());
    };
    let found: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT deliveries, delivered FROM ended_epoch WHERE party = ?1 AND epoch = ?2",
        )?
        .query_row(params![party.as_str(), epoch as i64], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((deliveries, delivered)) = found else {
        return Ok(Vec::new());
    };
    let then = PartyState {
        deliveries,
        delivered: delivered as u64,
        ..state
    };
    read(
        connection,
        &then,
        Direction::Deliveries,
        from,
        max_entries,
        max_bytes,
    )
}

impl Tx<'_> {
    /// The local system has taken over this much of an epoch. Never goes back,
    /// never beyond its end.
    pub(super) fn consume_in(
        &mut self,
        party: &PartyId,
        epoch: u64,
        through: u64,
    ) -> Result<u64, StoreError> {
        let state = self.state(party)?;
        if state.epoch == epoch {
            state.consumed = state.consumed.max(through.min(state.delivered));
            let consumed = state.consumed;
            self.touch(party);
            return Ok(consumed);
        }
        let key = params![party.as_str(), epoch as i64, through as i64];
        self.connection
            .prepare_cached(
                "UPDATE ended_epoch SET consumed = max(consumed, min(?3, delivered)) \
                 WHERE party = ?1 AND epoch = ?2",
            )?
            .execute(key)?;
        let consumed: Option<i64> = self
            .connection
            .prepare_cached("SELECT consumed FROM ended_epoch WHERE party = ?1 AND epoch = ?2")?
            .query_row(params![party.as_str(), epoch as i64], |row| row.get(0))
            .optional()?;
        self.touch(party);
        Ok(consumed.unwrap_or_default() as u64)
    }
}
