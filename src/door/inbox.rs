//! Reading an inbox, and saying how far one has come.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    domain::{DeliveryRecord, Micros, PartyId},
    exchange::Direction,
    store::Heads,
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
    /// The cursor is of another epoch, or the store can't read.
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
            let start = after.unwrap_or_else(|| self.acknowledged(caller, &heads));
            if start.epoch != heads.epoch {
                return Err(DoorError::invalid(
                    "after",
                    "is of an earlier epoch: fetch without it",
                ));
            }
            let items = self.items_after(caller, start, limit).await?;
            let is_over = !items.is_empty() || wait.is_zero();
            // The heads were read before the items: what came in between may
            // be among them, and takes nothing away.
            let reached = items.last().map_or(start, |item| item.cursor);
            let fetched = Fetched {
                items,
                complete_up_to: (reached.whole_deliveries() >= heads.deliveries)
                    .then(|| (self.freshness)(&caller.party, &heads, asked_at))
                    .flatten(),
            };
            if is_over || timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(fetched);
            }
        }
    }

    /// Everything through this cursor has been taken over by the local system.
    ///
    /// # Errors
    /// The cursor is of another epoch, or the store can't write.
    pub async fn acknowledge(&self, caller: &Caller, through: Cursor) -> Result<Cursor, DoorError> {
        let heads = self.store.heads(&caller.party).await?;
        if through.epoch != heads.epoch {
            return Err(DoorError::invalid("through", "is of an earlier epoch"));
        }
        let whole = through.whole_deliveries();
        let consumed = self.store.consume(&caller.party, whole).await?;
        let heads = Heads {
            consumed_through: consumed,
            ..heads
        };
        let before = self.acknowledged(caller, &heads);
        if through > before && through.first_unread() <= heads.deliveries {
            self.within().insert(caller.party.clone(), through);
        }
        Ok(self.acknowledged(caller, &heads))
    }

    /// Where a system goes on that brings no cursor.
    fn acknowledged(&self, caller: &Caller, heads: &Heads) -> Cursor {
        let whole = Cursor::at(heads.epoch, heads.consumed_through);
        match self.within().get(&caller.party) {
            // What another node, or another life, has consumed goes further.
            Some(within) if within.epoch == heads.epoch && *within > whole => *within,
            _ => whole,
        }
    }

    fn within(&self) -> MutexGuard<'_, HashMap<PartyId, Cursor>> {
        self.within.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn items_after(
        &self,
        caller: &Caller,
        start: Cursor,
        limit: usize,
    ) -> Result<Vec<InboxItem>, DoorError> {
        let entries = self
            .store
            .read(
                &caller.party,
                Direction::Deliveries,
                start.first_unread(),
                limit,
                FETCH_BYTES,
            )
            .await?;
        let mut items = Vec::new();
        for entry in entries {
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
                        if cursor > start {
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
        items.truncate(limit);
        Ok(items)
    }
}
