//! What the writer leaves in memory for those who read right behind it: where
//! the journals stand, and the newest entries of the journal that this node
//! sends. A link that keeps up never reads the disk. For engines with one
//! writer.
//!
//! Invariants: nothing stands here before its commit; a reader that finds a
//! gap, or nothing, reads the disk; every change of what was written before
//! (set aside, copied, erased) forgets the party's entries.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    domain::{Decision, DeliveryRecord, EventId, Micros, PartyId},
    exchange::{Direction, Entry},
    store::{Heads, JournalEntry, ReceivedEntry, ToldBefore, entry_size},
};

use super::standing::PartyState;

/// Entries that are kept for one party, at most.
const ENTRIES: usize = 8_192;
/// Bytes of them, at most.
const BYTES: usize = 4 * 1024 * 1024;
/// Bytes for all parties together, at most: beyond it a party that would add
/// to them is read from the disk.
const BYTES_IN_ALL: usize = 64 * 1024 * 1024;
/// Commits whose time is remembered for "oldest waiting".
const COMMITS: usize = 1_024;

/// Waiting callers beyond which those who gave up are swept out.
const SWEEP_AT: usize = 1_024;

/// Something that a transaction will leave in memory once it is committed.
pub(super) enum Fresh {
    /// One more entry of the journal that this node sends to the party.
    Entry {
        party: PartyId,
        epoch: u64,
        entry: JournalEntry,
    },
    /// Earlier entries of the party have changed, or an entry is only on disk.
    Forget(PartyId),
    /// Something was erased: nobody's entries may hold it any longer.
    ForgetAll,
}

/// The newest entries of one journal, without a gap.
#[derive(Default)]
struct Tail {
    epoch: u64,
    entries: VecDeque<JournalEntry>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, epoch: u64, entry: JournalEntry) {
        let follows = self
            .entries
            .back()
            .is_none_or(|last| last.position + 1 == entry.position);
        if epoch != self.epoch || !follows {
            self.clear();
            self.epoch = epoch;
        }
        self.bytes += entry_size(&entry.entry);
        self.entries.push_back(entry);
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.bytes -= entry_size(&first.entry);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[derive(Default)]
struct PartyMemory {
    state: Option<PartyState>,
    /// Entries that commits have put there, oldest first: from, through, since.
    commits: VecDeque<(u64, u64, Micros)>,
    /// Someone reads this journal, so its entries are worth keeping.
    is_read: bool,
    tail: Tail,
}

/// See the module.
pub(super) struct Memory {
    direction: Direction,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    parties: HashMap<PartyId, PartyMemory>,
    /// Bytes of all tails.
    held: usize,
}

impl Inner {
    fn with<T>(&mut self, party: &PartyId, work: impl FnOnce(&mut PartyMemory, usize) -> T) -> T {
        let memory = match self.parties.get_mut(party) {
            Some(memory) => memory,
            None => self.parties.entry(party.clone()).or_default(),
        };
        let before = memory.tail.bytes;
        let outcome = work(memory, self.held);
        self.held = self.held - before + memory.tail.bytes;
        outcome
    }

    fn forget_entries(&mut self) {
        for memory in self.parties.values_mut() {
            memory.tail.clear();
        }
        self.held = 0;
    }
}

impl Memory {
    /// For a node that sends this journal.
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            inner: Mutex::default(),
        }
    }

    fn with<T>(&self, party: &PartyId, work: impl FnOnce(&mut PartyMemory) -> T) -> T {
        self.lock().with(party, |memory, _| work(memory))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledged(&self, state: &PartyState) -> u64 {
        match self.direction {
            Direction::Submissions => state.acknowledged.position,
            Direction::Deliveries => state.delivered_acknowledged.position,
        }
    }

    /// A commit has put these states on disk.
    pub(super) fn publish<'a>(
        &self,
        states: impl Iterator<Item = &'a PartyState>,
        fresh: Vec<Fresh>,
    ) {
        for state in states {
            let acknowledged = self.acknowledged(state);
            let head = state.head_of(self.direction);
            self.with(&state.party, |memory| {
                let before = memory.state.as_ref();
                if before.is_some_and(|before| before.epoch != state.epoch) {
                    memory.commits.clear();
                }
                let known = before.map(|before| before.head_of(self.direction));
                let is_rewritten = fresh
                    .iter()
                    .any(|fresh| matches!(fresh, Fresh::Forget(party) if party == &state.party));
                let first = fresh.iter().find_map(|fresh| match fresh {
                    Fresh::Entry { party, entry, .. } if party == &state.party => {
                        Some(entry.stored_at)
                    }
                    _ => None,
                });
                match (known, first) {
                    // Older entries have come to new places: the disk knows.
                    _ if is_rewritten => memory.commits.clear(),
                    (Some(known), Some(first)) if known < head => {
                        memory.commits.push_back((known + 1, head, first));
                    }
                    _ => {}
                }
                while memory
                    .commits
                    .front()
                    .is_some_and(|(_, through, _)| *through <= acknowledged)
                {
                    memory.commits.pop_front();
                }
                while memory.commits.len() > COMMITS {
                    memory.commits.pop_back();
                }
                memory.state = Some(state.clone());
            });
        }
        for fresh in fresh {
            match fresh {
                Fresh::Entry {
                    party,
                    epoch,
                    entry,
                } => self.lock().with(&party, |memory, held| {
                    if held > BYTES_IN_ALL {
                        memory.tail.clear();
                    } else if memory.is_read {
                        memory.tail.push(epoch, entry);
                    }
                }),
                Fresh::Forget(party) => self.with(&party, |memory| memory.tail.clear()),
                Fresh::ForgetAll => self.lock().forget_entries(),
            }
        }
    }

    /// The epoch in force; `None`: the disk must be asked.
    pub(super) fn epoch(&self, party: &PartyId) -> Option<u64> {
        self.with(party, |memory| {
            memory.state.as_ref().map(|state| state.epoch)
        })
    }

    /// Where the journals stand; `None`: the disk must be asked.
    pub(super) fn heads(&self, party: &PartyId) -> Option<Heads> {
        self.with(party, |memory| {
            let state = memory.state.as_ref()?;
            let acknowledged = self.acknowledged(state);
            let waits = state.head_of(self.direction) > acknowledged;
            let oldest_waiting = match memory.commits.front() {
                _ if !waits => None,
                Some((from, _, stored_at)) if *from <= acknowledged + 1 => Some(*stored_at),
                _ => return None,
            };
            Some(state.heads_with(oldest_waiting, self.direction == Direction::Deliveries))
        })
    }

    /// Entries from a position on, if they are all here. What lies before it
    /// is let go: a link reads each entry once.
    pub(super) fn read(
        &self,
        party: &PartyId,
        direction: Direction,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Option<Vec<JournalEntry>> {
        if direction != self.direction {
            return None;
        }
        self.with(party, |memory| {
            memory.is_read = true;
            let state = memory.state.as_ref()?;
            if from > state.head_of(direction) {
                return Some(Vec::new());
            }
            if memory.tail.epoch != state.epoch {
                return None;
            }
            let first = memory.tail.entries.front()?.position;
            if from < first {
                return None;
            }
            for _ in first..from {
                memory.tail.pop();
            }
            let mut bytes = 0;
            let mut found = Vec::new();
            for entry in memory.tail.entries.iter().take(max_entries) {
                bytes += entry_size(&entry.entry);
                if bytes > max_bytes && !found.is_empty() {
                    break;
                }
                found.push(entry.clone());
            }
            (!found.is_empty()).then_some(found)
        })
    }

    /// Nothing of what was published holds any more.
    pub(super) fn forget_all(&self) {
        let mut inner = self.lock();
        inner.forget_entries();
        for memory in inner.parties.values_mut() {
            memory.state = None;
            memory.commits.clear();
        }
    }
}

/// Who waits for the hub's decision on an event.
#[derive(Default)]
pub(super) struct Expected {
    by_event: Mutex<HashMap<EventId, Vec<oneshot::Sender<Decision>>>>,
    /// Positions that were taken over from the hub, with their epoch: nobody who
    /// waits in this process has handed those over.
    adopted: Mutex<HashMap<PartyId, Vec<Adopted>>>,
}

type Adopted = (u64, RangeInclusive<u64>);

impl Expected {
    pub(super) fn wait(&self, event: &EventId) -> oneshot::Receiver<Decision> {
        let (tell, told) = oneshot::channel();
        let mut by_event = self.by_event.lock().unwrap_or_else(PoisonError::into_inner);
        if by_event.len() >= SWEEP_AT {
            // Whoever gave up waiting must not be kept for ever.
            by_event.retain(|_, waiting| {
                waiting.retain(|tell| !tell.is_closed());
                !waiting.is_empty()
            });
        }
        by_event.entry(*event).or_default().push(tell);
        told
    }

    /// These positions of a journal are the hub's: what was handed over here goes
    /// behind them.
    pub(super) fn adopted(&self, party: &PartyId, epoch: u64, theirs: RangeInclusive<u64>) {
        if theirs.is_empty() {
            return;
        }
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = adopted.entry(party.clone()).or_default();
        known.retain(|(of, _)| *of == epoch);
        known.push((epoch, theirs));
    }

    /// Those who wait for what these deliveries bring. What is told of an epoch
    /// that has ended, or of what a lost disk held, is about submissions of then:
    /// whoever waits now has handed over another one, maybe under the same key.
    pub(super) fn met_by(
        &self,
        party: &PartyId,
        entries: &[ReceivedEntry],
        epoch: u64,
    ) -> Vec<Met> {
        let mut met = Vec::new();
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let adopted = adopted.get(party).cloned().unwrap_or_default();
        let is_of_then = |position: u64| {
            let holds = |(of, theirs): &Adopted| *of == epoch && theirs.contains(&position);
            adopted.iter().any(holds)
        };
        let mut by_event = self.by_event.lock().unwrap_or_else(PoisonError::into_inner);
        if by_event.is_empty() {
            return met;
        }
        for entry in entries {
            let Some(DeliveryRecord::Decisions(set)) = &entry.record else {
                continue;
            };
            if set.epoch != epoch {
                continue;
            }
            for (position, decision) in (set.first_position..).zip(&set.decisions) {
                if is_of_then(position) {
                    continue;
                }
                let waiting = decision.event_id.and_then(|id| by_event.remove(&id));
                let waiting = waiting.into_iter().flatten();
                met.extend(waiting.map(|tell| (tell, decision.clone())));
            }
        }
        met
    }
}

/// Someone who waits, and what it waits for.
pub(super) type Met = (oneshot::Sender<Decision>, Decision);

/// An entry as memory keeps it.
pub(super) fn fresh_entry(
    party: &PartyId,
    epoch: u64,
    position: u64,
    stored_at: Micros,
    entry: Entry,
) -> Fresh {
    Fresh::Entry {
        party: party.clone(),
        epoch,
        entry: JournalEntry {
            position,
            stored_at,
            entry,
            told_before: ToldBefore::default(),
        },
    }
}
