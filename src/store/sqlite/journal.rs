//! Journals of one party: where they stand, and their rows.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{Digest, EventId, Micros, Part, PartState, PartyId},
    exchange::{Direction, Entry, Place, next_chain, root_chain},
    store::{
        CopyWanted, Counts, Heads, JournalEntry, SessionToken, StoreError, entry_size,
        memory::Fresh, standing::ASIDE,
    },
};

pub(super) use crate::store::standing::{PartyState, fresh_heads, journal_of, position_of, row_id};

use super::{
    blob16, damaged, digest,
    parts::{pack, unpack},
    receive_again::told_before,
    writer::Tx,
};

impl PartyState {
    /// In whole, with what has to be read for it.
    pub(super) fn heads(&self, connection: &Connection, is_hub: bool) -> Result<Heads, StoreError> {
        let (direction, after) = if is_hub {
            (Direction::Deliveries, self.delivered_acknowledged.position)
        } else {
            (Direction::Submissions, self.acknowledged.position)
        };
        let table = match direction {
            Direction::Submissions => "SELECT stored_at FROM submission WHERE id = ?1",
            Direction::Deliveries => "SELECT stored_at FROM delivery WHERE id = ?1",
        };
        let oldest_waiting = connection
            .prepare_cached(table)?
            .query_row([self.row(direction, after + 1)], |row| row.get(0))
            .optional()?
            .map(Micros);
        Ok(self.heads_with(oldest_waiting, is_hub))
    }
}

/// Reads a party's state.
pub(super) fn load_state(
    connection: &Connection,
    party: &PartyId,
) -> Result<Option<PartyState>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT epoch, submissions, deliveries, head, head_chain, acknowledged, \
         acknowledged_chain, delivered, delivered_acknowledged, delivered_acknowledged_chain, \
         consumed, token, copy_first, copy_last, copy_chain, aside_journal, aside_from, aside_to, \
         accepted, duplicates, rejected, parked, repeated FROM party_state WHERE party = ?1",
    )?;
    let state = statement
        .query_row([party.as_str()], |row| {
            let number = |index| row.get::<_, i64>(index).map(|value| value as u64);
            let copy = match (
                row.get::<_, Option<i64>>(12)?,
                row.get::<_, Option<i64>>(13)?,
                row.get::<_, Option<Vec<u8>>>(14)?,
            ) {
                (Some(first), Some(last), Some(chain)) => Some(CopyWanted {
                    first: first as u64,
                    last: last as u64,
                    end_chain: digest(&chain)?,
                }),
                _ => None,
            };
            let token: Option<Vec<u8>> = row.get(11)?;
            Ok(PartyState {
                party: party.clone(),
                epoch: number(0)?,
                submissions: row.get(1)?,
                deliveries: row.get(2)?,
                head: Place {
                    position: number(3)?,
                    chain: digest(&row.get::<_, Vec<u8>>(4)?)?,
                },
                acknowledged: Place {
                    position: number(5)?,
                    chain: digest(&row.get::<_, Vec<u8>>(6)?)?,
                },
                delivered: number(7)?,
                delivered_acknowledged: Place {
                    position: number(8)?,
                    chain: digest(&row.get::<_, Vec<u8>>(9)?)?,
                },
                consumed: number(10)?,
                token: token
                    .map(|bytes| blob16(&bytes))
                    .transpose()?
                    .map(SessionToken),
                copy,
                aside_journal: row.get(15)?,
                aside_from: number(16)?,
                aside_to: number(17)?,
                counts: Counts {
                    accepted: number(18)?,
                    duplicates: number(19)?,
                    rejected: number(20)?,
                    parked: number(21)?,
                    repeated_handovers: number(22)?,
                },
            })
        })
        .optional()?;
    Ok(state)
}

/// The chain at a position of the submissions: stored with every row.
pub(super) fn submission_chain(
    connection: &Connection,
    state: &PartyState,
    position: u64,
) -> Result<Option<Digest>, StoreError> {
    if position == 0 {
        return Ok(Some(root_chain(
            &state.party,
            Direction::Submissions,
            state.epoch,
        )));
    }
    if position > state.head.position {
        return Ok(None);
    }
    if position == state.head.position {
        return Ok(Some(state.head.chain));
    }
    if position == state.acknowledged.position {
        return Ok(Some(state.acknowledged.chain));
    }
    let chain: Option<Vec<u8>> = connection
        .prepare_cached("SELECT chain FROM submission WHERE id = ?1")?
        .query_row([row_id(state.submissions, position)], |row| row.get(0))
        .optional()?;
    Ok(chain.map(|bytes| digest(&bytes)).transpose()?)
}

/// Entries from a position on, in order and without a gap.
pub(super) fn read(
    connection: &Connection,
    state: &PartyState,
    direction: Direction,
    from: u64,
    max_entries: usize,
    max_bytes: usize,
) -> Result<Vec<JournalEntry>, StoreError> {
    let sql = match direction {
        Direction::Submissions => {
            "SELECT id, stored_at, x'', event, handover_digest, parts, 3 FROM submission \
             WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3"
        }
        Direction::Deliveries => {
            "SELECT d.id, d.stored_at, d.header, coalesce(d.event, s.event, x''), NULL, \
             coalesce(d.parts, s.parts), d.readable FROM delivery d \
             LEFT JOIN submission s ON s.id = d.event_row \
             WHERE d.id BETWEEN ?1 AND ?2 ORDER BY d.id LIMIT ?3"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        state.row(direction, from),
        state.row(direction, state.head_of(direction)),
        max_entries.min(1_000) as i64
    ])?;
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let position = position_of(row.get(0)?);
        if position != from + found.len() as u64 {
            break;
        }
        let handover: Option<Vec<u8>> = row.get(4)?;
        let event: Vec<u8> = row.get(3)?;
        let flags: i64 = row.get(6)?;
        let entry = JournalEntry {
            position,
            stored_at: Micros(row.get(1)?),
            entry: Entry {
                header: Bytes::from(row.get::<_, Vec<u8>>(2)?),
                event: Bytes::from(event),
                parts: unpack(row.get(5)?, flags)?,
                handover_digest: handover.map(|bytes| digest(&bytes)).transpose()?,
            },
            told_before: told_before(connection, row.get(0)?, flags)?,
        };
        bytes += entry_size(&entry.entry);
        if bytes > max_bytes && !found.is_empty() {
            break;
        }
        found.push(entry);
    }
    Ok(found)
}

/// The number of a journal; it is made if it is not there.
pub(super) fn put_journal(
    connection: &Connection,
    party: &PartyId,
    direction: u8,
    epoch: u64,
) -> Result<i64, StoreError> {
    let key = params![party.as_str(), direction, epoch as i64];
    connection
        .prepare_cached(
            "INSERT INTO journal (party, direction, epoch) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO NOTHING",
        )?
        .execute(key)?;
    let id = connection
        .prepare_cached(
            "SELECT id FROM journal WHERE party = ?1 AND direction = ?2 AND epoch = ?3",
        )?
        .query_row(key, |row| row.get(0))?;
    Ok(id)
}

/// Writes where a party's journals stand.
pub(super) fn save_state(connection: &Connection, state: &PartyState) -> Result<(), StoreError> {
    let counts = state.counts;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO party_state (party, epoch, submissions, deliveries, \
             head, head_chain, acknowledged, acknowledged_chain, delivered, \
             delivered_acknowledged, delivered_acknowledged_chain, consumed, token, \
             copy_first, copy_last, copy_chain, aside_journal, aside_from, aside_to, \
             accepted, duplicates, rejected, parked, repeated) VALUES (?1, ?2, ?3, ?4, \
             ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, \
             ?21, ?22, ?23, ?24)",
        )?
        .execute(params![
            state.party.as_str(),
            state.epoch as i64,
            state.submissions,
            state.deliveries,
            state.head.position as i64,
            state.head.chain.as_bytes(),
            state.acknowledged.position as i64,
            state.acknowledged.chain.as_bytes(),
            state.delivered as i64,
            state.delivered_acknowledged.position as i64,
            state.delivered_acknowledged.chain.as_bytes(),
            state.consumed as i64,
            state.token.map(|token| token.0.to_vec()),
            state.copy.map(|copy| copy.first as i64),
            state.copy.map(|copy| copy.last as i64),
            state.copy.map(|copy| copy.end_chain.as_bytes().to_vec()),
            state.aside_journal,
            state.aside_from as i64,
            state.aside_to as i64,
            counts.accepted as i64,
            counts.duplicates as i64,
            counts.rejected as i64,
            counts.parked as i64,
            counts.repeated_handovers as i64,
        ])?;
    Ok(())
}

/// One more row of a submissions journal.
pub(super) struct NewRow<'a> {
    pub(super) event: &'a [u8],
    pub(super) event_id: Option<EventId>,
    pub(super) mac: Option<[u8; 16]>,
    pub(super) complaint_id: Option<[u8; 16]>,
    pub(super) handover_digest: Option<Digest>,
    pub(super) parts: &'a [Part],
    pub(super) effect: Option<String>,
    pub(super) chain: Digest,
    pub(super) now: Micros,
}

impl Tx<'_> {
    /// The state of a party, for changing; made if it is not there.
    pub(super) fn state(&mut self, party: &PartyId) -> Result<&mut PartyState, StoreError> {
        self.note_state(party);
        if !self.states.contains_key(party) {
            let state = match load_state(self.connection, party)? {
                Some(state) => state,
                None => self.begin_party(party)?,
            };
            self.states.insert(party.clone(), state);
        }
        self.states
            .get_mut(party)
            .ok_or_else(|| damaged("a party's state"))
    }

    /// Begins the journals of a party that the store has never seen.
    fn begin_party(&mut self, party: &PartyId) -> Result<PartyState, StoreError> {
        let epoch = if self.shared.is_hub {
            // Epochs come from the clock and only grow.
            (self.shared.now().0 / 1_000_000).max(1) as u64
        } else {
            0
        };
        let state = PartyState {
            party: party.clone(),
            epoch,
            submissions: self.journal(party, Direction::Submissions.number(), epoch)?,
            deliveries: self.journal(party, Direction::Deliveries.number(), epoch)?,
            head: Place::root(party, Direction::Submissions, epoch),
            acknowledged: Place::root(party, Direction::Submissions, epoch),
            delivered: 0,
            delivered_acknowledged: Place::root(party, Direction::Deliveries, epoch),
            consumed: 0,
            token: None,
            copy: None,
            aside_journal: 0,
            aside_from: 1,
            aside_to: 0,
            counts: Counts::default(),
        };
        Ok(state)
    }

    pub(super) fn journal(
        &self,
        party: &PartyId,
        direction: u8,
        epoch: u64,
    ) -> Result<i64, StoreError> {
        put_journal(self.connection, party, direction, epoch)
    }

    pub(super) fn aside_journal(&self, party: &PartyId) -> Result<i64, StoreError> {
        self.journal(party, ASIDE, 0)
    }

    /// Writes back what the jobs of this transaction changed.
    pub(super) fn save_states(&mut self) -> Result<(), StoreError> {
        for party in self.take_dirty() {
            let Some(state) = self.states.get(&party) else {
                continue;
            };
            save_state(self.connection, state)?;
        }
        Ok(())
    }

    /// Puts a row at a place of a submissions journal, with its parts.
    pub(super) fn put_submission(&self, id: i64, row: &NewRow<'_>) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO submission (id, stored_at, event_id, mac, complaint_id, event, \
                 handover_digest, chain, effect, parts) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                id,
                row.now.0,
                row.event_id.as_ref().map(|id| id.as_bytes().as_slice()),
                row.mac,
                row.complaint_id,
                row.event,
                row.handover_digest
                    .as_ref()
                    .map(|found| found.as_bytes().as_slice()),
                row.chain.as_bytes(),
                row.effect,
                pack(row.parts),
            ])?;
        Ok(())
    }

    /// Takes a part's bytes away, and the hand-over digest with them.
    pub(super) fn erase_part(
        &mut self,
        row: i64,
        sha256: &Digest,
        by: &EventId,
    ) -> Result<(), StoreError> {
        let mut parts = self.parts_at(row)?;
        for part in parts.iter_mut().filter(|part| &part.sha256 == sha256) {
            part.state = PartState::Erased(*by);
        }
        self.set_parts(row, &parts)?;
        self.fresh.push(Fresh::ForgetAll);
        self.connection
            .prepare_cached("UPDATE submission SET handover_digest = NULL WHERE id = ?1")?
            .execute([row])?;
        Ok(())
    }

    /// Where the next submission of a party goes, and the chain there.
    pub(super) fn next_submission(
        &mut self,
        party: &PartyId,
        digest: &Digest,
    ) -> Result<(i64, Digest), StoreError> {
        let state = self.state(party)?;
        state.head = Place {
            position: state.head.position + 1,
            chain: next_chain(&state.head.chain, digest),
        };
        let id = row_id(state.submissions, state.head.position);
        let chain = state.head.chain;
        self.touch(party);
        Ok((id, chain))
    }
}
