//! The inbox of a local system: what the hub delivered, in order, under
//! cursors, until it is acknowledged.
//!
//! Invariants: what an ended epoch left comes before anything of the epoch in
//! force; an event that an earlier epoch brought is passed over; a cursor of an
//! earlier epoch goes on working.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    domain::{DeliveryRecord, Micros, PartyId},
    exchange::Direction,
    store::{EarlierInbox, Heads, JournalEntry, ToldBefore},
    wire,
};

use super::{Caller, Cursor, Door, DoorError, Fetched, InboxItem, InboxRecord};

/// Items of one fetch, at most; a constant of the contract.
const FETCH_ITEMS: usize = 1_000;
/// Bytes of one fetch, about.
const FETCH_BYTES: usize = 2 * 1024 * 1024;

impl Door {
    /// Items of the inbox after a cursor (else after what was acknowledged).
    /// With a wait it answers as soon as there is one.
    ///
    /// # Errors
    /// The cursor is of an epoch that is not known here, or the store can't
    /// read.
    pub async fn fetch(
        &self,
        caller: &Caller,
        after: Option<Cursor>,
        limit: usize,
        wait: Duration,
    ) -> Result<Fetched, DoorError> {
        let limit = match limit {
            0 => 100,
            limit => limit.min(FETCH_ITEMS),
        };
        let deadline = Instant::now() + wait.min(self.longest_wait);
        let mut changes = self.store.watch(&caller.party);
        loop {
            let asked_at = Micros(self.clock.now_micros());
            let heads = self.store.heads(&caller.party).await?;
            let (items, reached) = self.items_after(caller, &heads, after, limit).await?;
            if self.store.heads(&caller.party).await?.epoch != heads.epoch {
                // An epoch began meanwhile: these may not be what they seem.
                continue;
            }
            let is_over = !items.is_empty() || wait.is_zero();
            // The heads were read before the items: what came in between may
            // be among them, and takes nothing away.
            let is_complete = reached >= Cursor::at(heads.epoch, heads.deliveries);
            let fetched = Fetched {
                items,
                complete_up_to: is_complete
                    .then(|| (self.freshness)(&caller.party, &heads, asked_at))
                    .flatten(),
            };
            if is_over || timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(fetched);
            }
        }
    }

    /// Everything through this cursor has been taken over by the local system,
    /// and with it what earlier epochs left.
    ///
    /// # Errors
    /// The cursor is of an epoch that is not known here, or the store can't
    /// write.
    pub async fn acknowledge(&self, caller: &Caller, through: Cursor) -> Result<Cursor, DoorError> {
        let heads = self.store.heads(&caller.party).await?;
        self.check_epoch(caller, &heads, through, "through").await?;
        let (store, party) = (&self.store, &caller.party);
        let whole = through.whole_deliveries();
        let mut inboxes = store.earlier_inboxes(party).await?;
        inboxes.push(current(&heads));
        for mut inbox in inboxes {
            if inbox.epoch < through.epoch {
                store.consume_in(party, inbox.epoch, inbox.head).await?;
            } else if inbox.epoch == through.epoch {
                inbox.consumed_through = store.consume_in(party, inbox.epoch, whole).await?;
                let before = self.acknowledged(caller, &inbox);
                if through > before && through.first_unread() <= inbox.head {
                    self.within().insert(party.clone(), through);
                }
                return Ok(self.acknowledged(caller, &inbox));
            }
        }
        // Of an inbox that was taken over to its end.
        Ok(through)
    }

    /// Where a system goes on that brings no cursor.
    fn acknowledged(&self, caller: &Caller, inbox: &EarlierInbox) -> Cursor {
        let whole = Cursor::at(inbox.epoch, inbox.consumed_through);
        match self.within().get(&caller.party) {
            // What another node, or another life, has consumed goes further.
            Some(within) if within.epoch == inbox.epoch && *within > whole => *within,
            _ => whole,
        }
    }

    fn within(&self) -> MutexGuard<'_, HashMap<PartyId, Cursor>> {
        self.within.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a cursor that was not given out here: of no epoch that this
    /// party has been in.
    async fn check_epoch(
        &self,
        caller: &Caller,
        heads: &Heads,
        cursor: Cursor,
        field: &str,
    ) -> Result<(), DoorError> {
        let is_known = match cursor.epoch.cmp(&heads.epoch) {
            Ordering::Equal => true,
            Ordering::Greater => false,
            Ordering::Less => self.store.knows_epoch(&caller.party, cursor.epoch).await?,
        };
        match is_known {
            true => Ok(()),
            false => Err(DoorError::invalid(
                field,
                "is of an epoch that is not known here: go on without it",
            )),
        }
    }

    /// Items after a cursor, and how far was looked.
    async fn items_after(
        &self,
        caller: &Caller,
        heads: &Heads,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<InboxItem>, Cursor), DoorError> {
        let mut inboxes = self.store.earlier_inboxes(&caller.party).await?;
        inboxes.push(current(heads));
        if let Some(after) = after {
            self.check_epoch(caller, heads, after, "after").await?;
        }
        let mut reached = Cursor::at(0, 0);
        for inbox in inboxes {
            let start = match after {
                Some(after) if after.epoch > inbox.epoch => continue,
                Some(after) if after.epoch == inbox.epoch => after,
                _ => self.acknowledged(caller, &inbox),
            };
            let is_current = inbox.epoch == heads.epoch;
            let (items, end) = self.items_of(caller, start, limit, is_current).await?;
            reached = end;
            if !items.is_empty() {
                return Ok((items, reached));
            }
        }
        Ok((Vec::new(), reached))
    }

    /// Items of one epoch after a cursor. What an earlier epoch brought
    /// already is passed over.
    async fn items_of(
        &self,
        caller: &Caller,
        start: Cursor,
        limit: usize,
        is_current: bool,
    ) -> Result<(Vec<InboxItem>, Cursor), DoorError> {
        let mut from = start;
        loop {
            let (party, first) = (&caller.party, from.first_unread());
            let entries = if is_current {
                let all = Direction::Deliveries;
                self.store.read(party, all, first, limit, FETCH_BYTES)
            } else {
                let (from, most) = ((start.epoch, first), (limit, FETCH_BYTES));
                self.store.read_earlier(party, from, most)
            };
            let entries = entries.await?;
            let Some(last) = entries.last() else {
                return Ok((Vec::new(), from));
            };
            let end = Cursor::at(start.epoch, last.position);
            let mut items = items(caller, start, entries);
            if !items.is_empty() {
                let is_cut = items.len() > limit;
                items.truncate(limit);
                let reached = items.last().filter(|_| is_cut);
                let reached = reached.map_or(end, |item| item.cursor);
                return Ok((items, reached));
            }
            from = end;
        }
    }
}

/// The inbox of the epoch in force.
fn current(heads: &Heads) -> EarlierInbox {
    EarlierInbox {
        epoch: heads.epoch,
        head: heads.deliveries,
        consumed_through: heads.consumed_through,
    }
}

/// What deliveries after a cursor bring to a local system.
fn items(caller: &Caller, start: Cursor, entries: Vec<JournalEntry>) -> Vec<InboxItem> {
    let mut items = Vec::new();
    for entry in entries {
        let told = match &entry.told_before {
            ToldBefore::Everything => continue,
            ToldBefore::Decisions(places) => places.clone(),
            ToldBefore::Nothing => BTreeSet::new(),
        };
        let position = entry.position;
        match wire::decode_header(&entry.entry.header) {
            Ok(DeliveryRecord::Event(header)) => items.push(InboxItem {
                cursor: Cursor::at(start.epoch, position),
                entry,
                record: InboxRecord::Event(Box::new(header)),
            }),
            Ok(DeliveryRecord::Decisions(set)) => {
                let last = set.decisions.len().saturating_sub(1);
                for (place, decision) in set.decisions.into_iter().enumerate() {
                    let cursor = if place == last {
                        Cursor::at(start.epoch, position)
                    } else {
                        Cursor::within(start.epoch, position, place as u32)
                    };
                    if cursor > start && !told.contains(&(place as u32)) {
                        items.push(InboxItem {
                            cursor,
                            entry: entry.clone(),
                            record: InboxRecord::Decision(Box::new(decision)),
                        });
                    }
                }
            }
            Err(unreadable) => {
                tracing::error!(
                    event = "delivery_header_unreadable",
                    party = %caller.party,
                    position,
                    why = %unreadable.why,
                    "a newer hub says something that this version does not know: update this node"
                );
                items.push(InboxItem {
                    cursor: Cursor::at(start.epoch, position),
                    entry,
                    record: InboxRecord::Unreadable,
                });
            }
        }
    }
    items
}
