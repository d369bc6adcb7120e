//! Where events and complaints stand: two tables of integers, `event_key` and
//! `complaint_key`.
//!
//! Keys are random, so each one that goes into its table by itself costs a
//! page, written twice. So the newest wait in memory, and on disk in `key_log`,
//! which only grows at its end, a row a commit. From there they go into their
//! tables in the order of the keys, a slice with each commit, many to a page.
//!
//! Invariants: a key is in its table or waits; what waits is in the log; a key
//! that has gone into its table leaves memory only when nobody reads a moment
//! before that any more; a key that names a row which a reader does not see is
//! no hit for it, and where something has moved it is told where that stood.

use std::{
    cell::Cell,
    collections::HashMap,
    ops::{Deref, RangeInclusive},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::StoreError;

use super::damaged;

/// Keys that may wait: in a small store (some megabytes of memory), and in one
/// of any size.
const WAITING: RangeInclusive<usize> = 131_072..=550_000;
/// Between the two, one key may wait for so many bytes of the file. An event
/// takes some 2 KiB, and 280 keys stand in a page of their table, so a round
/// brings some 35 keys to each page, however large the table is.
const BYTES_PER_WAITING: u64 = 18 * 1_024;
/// Bytes of a key in the log.
const LOGGED: usize = 16;
/// The bit that tells the two tables apart; keys have 63.
const COMPLAINTS: u64 = 1 << 63;

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Events,
    Complaints,
}

impl Table {
    fn tagged(self, key: i64) -> u64 {
        let key = key as u64 & !COMPLAINTS;
        match self {
            Self::Events => key,
            Self::Complaints => key | COMPLAINTS,
        }
    }

    fn of(tagged: u64) -> (Self, i64) {
        let key = (tagged & !COMPLAINTS) as i64;
        match tagged & COMPLAINTS {
            0 => (Self::Events, key),
            _ => (Self::Complaints, key),
        }
    }

    fn select(self) -> &'static str {
        match self {
            Self::Events => "SELECT row FROM event_key WHERE key = ?1",
            Self::Complaints => "SELECT complaint FROM complaint_key WHERE key = ?1",
        }
    }

    fn upsert(self) -> &'static str {
        match self {
            Self::Events => "INSERT OR REPLACE INTO event_key (key, row) VALUES (?1, ?2)",
            Self::Complaints => {
                "INSERT OR REPLACE INTO complaint_key (key, complaint) VALUES (?1, ?2)"
            }
        }
    }
}

/// The keys that wait, and how far putting them into their tables has come.
pub(super) struct Keys {
    /// Keys that may wait: at least, and at most.
    limits: RangeInclusive<usize>,
    waiting: RwLock<Waits>,
    /// Of the transaction under way: only the writer looks here.
    fresh: Mutex<FreshKeys>,
    sweep: Mutex<Sweep>,
    /// Whoever reads holds the generation in which it began.
    generation: Mutex<Arc<()>>,
}

/// What a key that waits stands for, and the row of the log that says so: it
/// may have stood for the same thing before, and for something else in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    value: i64,
    logged: i64,
}

/// What waits, and, of those few keys of which something has moved meanwhile, what
/// they waited with before: for whoever reads a moment from then.
#[derive(Default)]
struct Waits {
    by_key: HashMap<u64, Waiting>,
    before: HashMap<u64, i64>,
}

/// What waits under a key, and what it waited with before that.
type Waited = (Option<Waiting>, Option<i64>);

impl Waits {
    /// Puts that back.
    fn restore(&mut self, key: u64, (waiting, before): Waited) {
        match waiting {
            Some(waiting) => self.by_key.insert(key, waiting),
            None => self.by_key.remove(&key),
        };
        match before {
            Some(before) => self.before.insert(key, before),
            None => self.before.remove(&key),
        };
    }
}

#[derive(Default)]
struct FreshKeys {
    in_order: Vec<(u64, i64)>,
    by_key: HashMap<u64, i64>,
}

/// Putting keys into their tables goes in rounds: all that wait when one
/// begins, in the order of the keys.
#[derive(Default)]
struct Sweep {
    /// Keys of this round, the greatest first; what is left of them.
    round: Vec<u64>,
    /// The last row of the log.
    logged: i64,
    /// Through here the log is in the tables when this round is done.
    from: i64,
    /// What the transaction under way has changed of what waits.
    changed: Vec<(u64, Waited)>,
    /// In their tables, but still in memory for those who read.
    retired: Vec<Retired>,
}

/// Keys that are in their tables, and who may still read a moment before that.
struct Retired {
    generation: Arc<()>,
    keys: Vec<(u64, Waiting)>,
}

/// What a transaction will have done once it is committed.
pub(super) struct Step {
    slice: Vec<(u64, Waiting)>,
    logged: i64,
    /// Keys of the round that this takes.
    taken: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Keys {
    fn default() -> Self {
        Self::with_limits(WAITING)
    }
}

impl Keys {
    pub(super) fn with_limits(limits: RangeInclusive<usize>) -> Self {
        Self {
            limits,
            waiting: RwLock::default(),
            fresh: Mutex::default(),
            sweep: Mutex::default(),
            generation: Mutex::default(),
        }
    }

    /// Takes up what waits in the log, once, at opening. Where stops have kept
    /// rounds from being finished the log is long: then all of it goes into the
    /// tables at once.
    pub(super) fn load(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut statement = connection.prepare("SELECT seq, keys FROM key_log ORDER BY seq")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        let mut last = 0;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let logged = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            for entry in logged.chunks(LOGGED) {
                found.push(unpack(entry).ok_or_else(|| damaged("the log of keys"))?);
            }
        }
        drop(rows);
        if found.len() > 2 * self.limit(connection)? {
            found.sort_by_key(|(key, _)| *key);
            let transaction = connection.unchecked_transaction()?;
            put(&transaction, found.iter().copied())?;
            transaction.execute("DELETE FROM key_log", [])?;
            transaction.commit()?;
            found.clear();
        }
        // Of a key that was logged twice the later place counts.
        let by_key = found.into_iter().map(|(key, value)| {
            let logged = last;
            (key, Waiting { value, logged })
        });
        *self.waiting.write().unwrap_or_else(PoisonError::into_inner) = Waits {
            by_key: by_key.collect(),
            before: HashMap::new(),
        };
        *lock(&self.fresh) = FreshKeys::default();
        *lock(&self.sweep) = Sweep {
            logged: last,
            ..Sweep::default()
        };
        Ok(())
    }

    /// Keys that may wait beside a file of this size.
    fn limit(&self, connection: &Connection) -> Result<usize, StoreError> {
        let pages: i64 = connection
            .prepare_cached("PRAGMA page_count")?
            .query_row([], |row| row.get(0))?;
        let page: i64 = connection
            .prepare_cached("PRAGMA page_size")?
            .query_row([], |row| row.get(0))?;
        let wanted = pages.unsigned_abs() * page.unsigned_abs() / BYTES_PER_WAITING;
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        Ok(wanted.clamp(*self.limits.start(), *self.limits.end()))
    }

    /// Held while someone reads.
    pub(super) fn reading(&self) -> Arc<()> {
        lock(&self.generation).clone()
    }

    /// How many keys the transaction under way has put.
    pub(super) fn fresh_len(&self) -> usize {
        lock(&self.fresh).in_order.len()
    }

    /// Takes back what a job that failed had put.
    pub(super) fn undo_to(&self, len: usize) {
        let mut fresh = lock(&self.fresh);
        if fresh.in_order.len() > len {
            fresh.in_order.truncate(len);
            fresh.by_key = fresh.in_order.iter().copied().collect();
        }
    }

    /// Before the commit: logs what is fresh, and puts a slice of what waits
    /// into its tables. From now on readers find what is fresh.
    pub(super) fn before_commit(&self, connection: &Connection) -> Result<Step, StoreError> {
        let fresh = std::mem::take(&mut *lock(&self.fresh)).in_order;
        let mut sweep = lock(&self.sweep);
        let mut step = Step {
            slice: Vec::new(),
            logged: sweep.logged,
            taken: 0,
        };
        if fresh.is_empty() {
            return Ok(step);
        }
        step.logged += 1;
        let mut logged = Vec::with_capacity(fresh.len() * LOGGED);
        for (key, value) in &fresh {
            logged.extend_from_slice(&key.to_be_bytes());
            logged.extend_from_slice(&value.to_be_bytes());
        }
        connection
            .prepare_cached("INSERT INTO key_log (seq, keys) VALUES (?1, ?2)")?
            .execute(params![step.logged, logged])?;
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        let is_round_due = sweep.round.is_empty()
            && waiting.by_key.len() > *self.limits.start()
            && waiting.by_key.len() > self.limit(connection)?;
        if is_round_due {
            sweep.round.extend(waiting.by_key.keys());
            sweep.round.sort_unstable_by(|one, other| other.cmp(one));
            sweep.from = sweep.logged;
        }
        // More than came, so that what a stop left behind is caught up.
        step.taken = sweep.round.len().min(fresh.len() * 3 / 2 + 1);
        let slice = sweep.round.iter().rev().take(step.taken);
        step.slice
            .extend(slice.filter_map(|key| Some((*key, *waiting.by_key.get(key)?))));
        sweep.changed.clear();
        for (key, value) in fresh {
            let logged = step.logged;
            let earlier = waiting.by_key.insert(key, Waiting { value, logged });
            let before = waiting.before.get(&key).copied();
            // Twice in this transaction: nobody has read what was between.
            if let Some(earlier) = earlier.filter(|earlier| earlier.logged != logged) {
                waiting.before.insert(key, earlier.value);
            }
            sweep.changed.push((key, (earlier, before)));
        }
        drop(waiting);
        let values = step
            .slice
            .iter()
            .map(|(key, waiting)| (*key, waiting.value));
        put(connection, values)?;
        if step.taken > 0 && step.taken == sweep.round.len() {
            connection
                .prepare_cached("DELETE FROM key_log WHERE seq <= ?1")?
                .execute([sweep.from])?;
        }
        Ok(step)
    }

    /// Nothing of the transaction stays.
    pub(super) fn rolled_back(&self) {
        *lock(&self.fresh) = FreshKeys::default();
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        for (key, before) in std::mem::take(&mut lock(&self.sweep).changed)
            .into_iter()
            .rev()
        {
            waiting.restore(key, before);
        }
    }

    /// The commit has been made.
    pub(super) fn committed(&self, step: Step) {
        let mut sweep = lock(&self.sweep);
        sweep.logged = step.logged;
        sweep.changed.clear();
        let left = sweep.round.len().saturating_sub(step.taken);
        sweep.round.truncate(left);
        if !step.slice.is_empty() {
            let before = std::mem::take(&mut *lock(&self.generation));
            sweep.retired.push(Retired {
                generation: before,
                keys: step.slice,
            });
        }
        if sweep.retired.is_empty() {
            return;
        }
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        // In order: a later generation may not outlive an earlier one's key.
        while let Some(first) = sweep.retired.first() {
            if Arc::strong_count(&first.generation) > 1 {
                break;
            }
            for (key, retired) in sweep.retired.remove(0).keys {
                // It may stand elsewhere by now.
                if waiting.by_key.get(&key) == Some(&retired) {
                    waiting.restore(key, (None, None));
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let waiting = self.waiting.read().unwrap_or_else(PoisonError::into_inner);
        waiting.by_key.len()
    }
}

/// Puts keys into their tables; of the same key the last one stays.
fn put(connection: &Connection, keys: impl Iterator<Item = (u64, i64)>) -> Result<(), StoreError> {
    for (key, value) in keys {
        let (table, key) = Table::of(key);
        connection
            .prepare_cached(table.upsert())?
            .execute([key, value])?;
    }
    Ok(())
}

fn unpack(entry: &[u8]) -> Option<(u64, i64)> {
    let (key, value) = entry.split_at_checked(8)?;
    Some((
        u64::from_be_bytes(key.try_into().ok()?),
        i64::from_be_bytes(value.try_into().ok()?),
    ))
}

/// A connection that knows where the newest keys are.
pub(super) struct Db<'a> {
    connection: &'a Connection,
    keys: &'a Keys,
    is_writer: bool,
    /// Keys that were just looked for and are free, one of each table.
    free: [Cell<Option<i64>>; 2],
}

impl Deref for Db<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'a> Db<'a> {
    /// For reading.
    pub(super) fn reader(connection: &'a Connection, keys: &'a Keys) -> Self {
        Self::new(connection, keys, false)
    }

    /// For the writer, which also sees what it has just put.
    pub(super) fn writer(connection: &'a Connection, keys: &'a Keys) -> Self {
        Self::new(connection, keys, true)
    }

    fn new(connection: &'a Connection, keys: &'a Keys, is_writer: bool) -> Self {
        Self {
            connection,
            keys,
            is_writer,
            free: [const { Cell::new(None) }; 2],
        }
    }

    /// What stands under a key.
    pub(super) fn at_key(&self, table: Table, key: i64) -> Result<Option<i64>, StoreError> {
        let tagged = table.tagged(key);
        if self.is_writer
            && let Some(value) = lock(&self.keys.fresh).by_key.get(&tagged)
        {
            return Ok(Some(*value));
        }
        let waiting = self.keys.waiting.read();
        let waits = waiting
            .unwrap_or_else(PoisonError::into_inner)
            .by_key
            .get(&tagged)
            .map(|found| found.value);
        if waits.is_some() {
            return Ok(waits);
        }
        let found = self
            .connection
            .prepare_cached(table.select())?
            .query_row([key], |row| row.get(0))
            .optional()?;
        if found.is_none() {
            self.free[table as usize].set(Some(key));
        }
        Ok(found)
    }

    /// Where that may have stood which stands under a key now, for a reader that
    /// does not see the row of [`Db::at_key`] yet: what the key had waited with,
    /// and what its table has at the moment that is read.
    pub(super) fn earlier_at_key(
        &self,
        table: Table,
        key: i64,
    ) -> Result<[Option<i64>; 2], StoreError> {
        let waiting = self.keys.waiting.read();
        let waited = waiting
            .unwrap_or_else(PoisonError::into_inner)
            .before
            .get(&table.tagged(key))
            .copied();
        let in_table = self
            .connection
            .prepare_cached(table.select())?
            .query_row([key], |row| row.get(0))
            .optional()?;
        Ok([waited, in_table])
    }

    /// Puts a key that is free; `false`: something stands there.
    pub(super) fn put_key(&self, table: Table, key: i64, value: i64) -> Result<bool, StoreError> {
        let is_free = self.free[table as usize].get() == Some(key);
        if !is_free && self.at_key(table, key)?.is_some() {
            return Ok(false);
        }
        self.set_key(table, key, value);
        Ok(true)
    }

    /// Something else stands under this key from now on.
    pub(super) fn set_key(&self, table: Table, key: i64, value: i64) {
        debug_assert!(self.is_writer, "only the writer puts keys");
        self.free[table as usize].set(None);
        let tagged = table.tagged(key);
        let mut fresh = lock(&self.keys.fresh);
        fresh.in_order.push((tagged, value));
        fresh.by_key.insert(tagged, value);
    }
}
