//! What the writer knows of its database while it works on a batch, and what the
//! batch changes.
//!
//! A job is a plain function over this. What it needs and is not here yet it
//! names, and goes on with what does not depend on that; then all that was named
//! is read at once, and the job is done again from its beginning. So rules are
//! written as if everything stood in memory, and a batch costs a trip or two
//! however many items it has.
//!
//! Invariants: a job that fails, or lacks something, leaves nothing behind; where
//! the parties' journals stand is kept from one batch to the next, since nobody
//! else writes; of everything else nothing is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use hmac::Hmac;
use sha2::Sha256;

use crate::{
    domain::{
        ComplaintId, Decision, Digest, EventId, Micros, Part, PartyId, Reference, SystemName,
    },
    exchange::{Direction, Place},
    runtime::Clock,
    store::{
        Counts, StoreError,
        memory::Fresh,
        standing::{ASIDE, PartyState},
    },
};

use super::table::Table;

/// Why a step has no outcome.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something is not here yet; it was named.
    Missing,
    /// It can't be done.
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

pub(super) type Step<T> = Result<T, Stop>;

/// Something of the database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// Where a party's journals stand, and its ended epochs.
    Party(PartyId),
    /// Where an event stands, and that row.
    Event([u8; 16]),
    /// A complaint as a party knows it, with all that hangs on it but texts.
    View(PartyId, [u8; 16]),
    /// The complaint that a party calls so.
    Called(PartyId, SystemName, Reference),
    /// A row of own submissions, without its bytes, and what was decided of it.
    Row(i64),
    /// The parts of a row, of whichever journal.
    Parts(i64),
    /// Digest of the event of a row of own submissions.
    Digest(i64),
    /// Whether a delivery could not be read.
    Unread(i64),
}

/// A row of own submissions, without its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sub {
    pub(super) event_id: Option<[u8; 16]>,
    pub(super) mac: Option<[u8; 16]>,
    pub(super) complaint_id: Option<[u8; 16]>,
    pub(super) effect: Option<String>,
    pub(super) chain: Digest,
    /// Its bytes are not here.
    pub(super) is_gone: bool,
}

/// What a new row of own submissions has besides.
#[derive(Debug, Clone)]
pub(super) struct NewSub {
    pub(super) stored_at: Micros,
    pub(super) event: Bytes,
    pub(super) handover_digest: Option<Digest>,
}

/// The parts of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    pub(super) is_delivery: bool,
    pub(super) parts: Vec<Part>,
    /// Something was erased, and the hand-over digest with it.
    pub(super) is_erased: bool,
}

/// A complaint as a party knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct View {
    pub(super) id: i64,
    pub(super) number: i64,
    pub(super) filed_row: Option<i64>,
    /// Party, system, reference.
    pub(super) origin_party: Option<String>,
    pub(super) origin_system: Option<String>,
    pub(super) origin_reference: Option<String>,
    pub(super) tracking_id: Option<String>,
    pub(super) status: Option<String>,
    pub(super) handler: Option<String>,
    pub(super) revision: u32,
    pub(super) anonymous: bool,
    pub(super) confidential: bool,
    pub(super) answer_missing: bool,
    pub(super) epoch: u64,
}

/// A revision that was delivered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    pub(super) row: i64,
    pub(super) event_id: [u8; 16],
    pub(super) author: String,
    pub(super) accepted_at: i64,
    pub(super) hops: u32,
    pub(super) header: String,
}

/// Where journals stood when an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ended {
    pub(super) submissions: i64,
    pub(super) head: Place,
    pub(super) deliveries: i64,
    pub(super) delivered: Place,
    pub(super) consumed: u64,
}

/// A delivery to be stored.
#[derive(Debug, Clone)]
pub(super) struct NewDelivery {
    pub(super) row: i64,
    pub(super) stored_at: Micros,
    pub(super) header: Bytes,
    pub(super) event: Bytes,
    pub(super) readable: i16,
}

/// A status without a row in its mapping table: party, system, code, name.
pub(super) type WorkKey = (String, String, String, String);

/// What is written and never read back while a batch lasts.
#[derive(Default)]
pub(super) struct Out {
    pub(super) submissions: BTreeMap<i64, NewSub>,
    pub(super) deliveries: Vec<NewDelivery>,
    /// Row, chain.
    pub(super) marks: Vec<(i64, Digest)>,
    /// Row, place.
    pub(super) told: Vec<(i64, u32)>,
    /// Bytes of own submissions that never came back.
    pub(super) gone: Vec<i64>,
    /// Bytes that did.
    pub(super) back: Vec<i64>,
    /// Journal and position whose decision was not final.
    pub(super) anew: Vec<(i64, u64)>,
    /// How often, and when last.
    pub(super) work_items: BTreeMap<WorkKey, (i64, Micros)>,
    pub(super) settled_work: Vec<WorkKey>,
    pub(super) fresh: Vec<Fresh>,
    pub(super) touched: BTreeSet<PartyId>,
}

impl Out {
    fn append(&mut self, mut job: Self) {
        self.submissions.append(&mut job.submissions);
        self.deliveries.append(&mut job.deliveries);
        self.marks.append(&mut job.marks);
        self.told.append(&mut job.told);
        self.gone.append(&mut job.gone);
        self.back.append(&mut job.back);
        self.anew.append(&mut job.anew);
        for (key, (count, last_seen)) in job.work_items {
            let all = self.work_items.entry(key).or_insert((0, last_seen));
            *all = (all.0 + count, all.1.max(last_seen));
        }
        self.settled_work.append(&mut job.settled_work);
        self.fresh.append(&mut job.fresh);
        self.touched.append(&mut job.touched);
    }
}

/// Numbers that the one writer gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) journal: i64,
    pub(super) view: i64,
}

/// See the module.
pub(super) struct World {
    pub(super) dedup_key: Hmac<Sha256>,
    pub(super) clock: Arc<dyn Clock>,
    /// Given by the job at work, by the batch before it, and before the batch: what is
    /// done again gives the same ones.
    pub(super) numbers: Numbers,
    numbers_before_job: Numbers,
    numbers_before_batch: Numbers,
    /// Every party is here: what is not known is not there.
    pub(super) is_whole: bool,
    pub(super) states: Table<PartyId, PartyState>,
    pub(super) journals: Table<(PartyId, u8, u64), i64>,
    pub(super) ended: Table<(PartyId, u64), Ended>,
    pub(super) keys: Table<[u8; 16], i64>,
    pub(super) views: Table<(PartyId, [u8; 16]), View>,
    pub(super) called: Table<(PartyId, SystemName, Reference), ([u8; 16], i64)>,
    /// The names of a complaint, by the party's system.
    pub(super) named: Table<(PartyId, [u8; 16]), BTreeMap<SystemName, Reference>>,
    pub(super) histories: Table<(i64, u32), History>,
    pub(super) told_before: Table<(i64, [u8; 16]), i64>,
    pub(super) events_of: Table<(i64, i64), ()>,
    pub(super) subs: Table<i64, Sub>,
    pub(super) decisions: Table<i64, Decision>,
    pub(super) parts: Table<i64, Parts>,
    pub(super) digests: Table<i64, Digest>,
    pub(super) unread: Table<i64, PartyId>,
    job: Out,
    pub(super) out: Out,
    wants: BTreeSet<Want>,
    /// The job at work lacks something.
    is_short: bool,
}

/// Does the same with every table of a batch.
macro_rules! every_table {
    ($world:ident, $act:ident) => {
        $world.states.$act();
        $world.journals.$act();
        $world.ended.$act();
        every_table!(@rows $world, $act);
    };
    (@rows $world:ident, $act:ident) => {
        $world.keys.$act();
        $world.views.$act();
        $world.called.$act();
        $world.named.$act();
        $world.histories.$act();
        $world.told_before.$act();
        $world.events_of.$act();
        $world.subs.$act();
        $world.decisions.$act();
        $world.parts.$act();
        $world.digests.$act();
        $world.unread.$act();
    };
}

impl World {
    pub(super) fn new(dedup_key: Hmac<Sha256>, clock: Arc<dyn Clock>) -> Self {
        Self {
            dedup_key,
            clock,
            numbers: Numbers::default(),
            numbers_before_job: Numbers::default(),
            numbers_before_batch: Numbers::default(),
            is_whole: false,
            states: Table::default(),
            journals: Table::default(),
            ended: Table::default(),
            keys: Table::default(),
            views: Table::default(),
            called: Table::default(),
            named: Table::default(),
            histories: Table::default(),
            told_before: Table::default(),
            events_of: Table::default(),
            subs: Table::default(),
            decisions: Table::default(),
            parts: Table::default(),
            digests: Table::default(),
            unread: Table::default(),
            job: Out::default(),
            out: Out::default(),
            wants: BTreeSet::new(),
            is_short: false,
        }
    }

    /// A batch begins, with what it had read or without.
    pub(super) fn begin_batch(&mut self) {
        self.drop_batch();
        self.forget_rows();
    }

    /// Nothing that the batch has changed holds; what was read does.
    pub(super) fn drop_batch(&mut self) {
        every_table!(self, drop_batch);
        self.numbers = self.numbers_before_batch;
        self.job = Out::default();
        self.out = Out::default();
        self.wants.clear();
    }

    /// What the batch leaves for memory and for those who wait, once it is
    /// committed.
    pub(super) fn left(&mut self) -> (Vec<PartyState>, Vec<Fresh>, BTreeSet<PartyId>) {
        let (changed, _) = self.states.changes();
        let changed = changed
            .into_iter()
            .map(|(_, state)| state.clone())
            .collect();
        let fresh = std::mem::take(&mut self.out.fresh);
        (changed, fresh, std::mem::take(&mut self.out.touched))
    }

    /// The batch is committed.
    pub(super) fn keep_batch(&mut self) {
        every_table!(self, keep_batch);
        self.numbers_before_batch = self.numbers;
        self.forget_rows();
        self.out = Out::default();
    }

    /// Every party has been read, and the last numbers that were given.
    pub(super) fn is_read(&mut self, numbers: Numbers) {
        self.numbers = numbers;
        self.numbers_before_batch = numbers;
        self.is_whole = true;
    }

    fn forget_rows(&mut self) {
        every_table!(@rows self, forget);
    }

    /// Nothing is known of the database any more.
    pub(super) fn forget_all(&mut self) {
        every_table!(self, forget);
        self.drop_batch();
        self.is_whole = false;
    }

    /// Runs a job; `None`: it lacks what it has named, or failed beside that.
    pub(super) fn run<T>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Step<T>,
    ) -> Result<Option<T>, StoreError> {
        self.is_short = false;
        self.numbers_before_job = self.numbers;
        let outcome = job(self);
        match outcome {
            Ok(done) if !self.is_short => {
                self.keep_job();
                Ok(Some(done))
            }
            Err(Stop::Failed(error)) if !self.is_short => {
                self.drop_job();
                Err(error)
            }
            _ => {
                self.drop_job();
                Ok(None)
            }
        }
    }

    /// The job at work has ended well.
    pub(super) fn keep_job(&mut self) {
        every_table!(self, keep_job);
        let job = std::mem::take(&mut self.job);
        self.out.append(job);
    }

    /// The job at work leaves nothing behind.
    pub(super) fn drop_job(&mut self) {
        every_table!(self, drop_job);
        self.numbers = self.numbers_before_job;
        self.job = Out::default();
    }

    /// What has been named since it was asked last.
    pub(super) fn take_wants(&mut self) -> BTreeSet<Want> {
        std::mem::take(&mut self.wants)
    }

    /// Whether the job at work has named something.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// One step of several that do not need each other: what it lacks is named,
    /// and the next may be looked at.
    pub(super) fn step<T>(&mut self, work: impl FnOnce(&mut Self) -> Step<T>) -> Step<Option<T>> {
        match work(self) {
            Ok(done) => Ok(Some(done)),
            Err(Stop::Missing) => Ok(None),
            // What is not there yet may be why.
            Err(Stop::Failed(_)) if self.is_short => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Names what is not here of this.
    pub(super) fn need(&mut self, wants: impl IntoIterator<Item = Want>) -> Step<()> {
        let mut is_here = true;
        for want in wants {
            if !self.has(&want) {
                is_here = false;
                self.is_short = true;
                self.wants.insert(want);
            }
        }
        is_here.then_some(()).ok_or(Stop::Missing)
    }

    fn has(&self, want: &Want) -> bool {
        match want {
            Want::Party(party) => self.is_whole || self.states.knows(party),
            Want::Event(id) => self.keys.knows(id),
            Want::View(party, id) => self.views.knows(&(party.clone(), *id)),
            Want::Called(party, system, reference) => {
                let name = (party.clone(), system.clone(), reference.clone());
                self.called.knows(&name)
            }
            Want::Row(row) => self.subs.knows(row) && self.decisions.knows(row),
            Want::Parts(row) => self.parts.knows(row),
            Want::Digest(row) => self.digests.knows(row),
            Want::Unread(row) => self.unread.knows(row),
        }
    }

    /// What the job at work writes beside rows that are read.
    pub(super) fn job(&mut self) -> &mut Out {
        &mut self.job
    }

    /// This party's journals, mark or decisions change.
    pub(super) fn touch(&mut self, party: &PartyId) {
        if !self.job.touched.contains(party) {
            self.job.touched.insert(party.clone());
        }
    }

    /// Where a party's journals stand; begun if it is new here.
    pub(super) fn state(&mut self, party: &PartyId) -> Step<&mut PartyState> {
        self.need([Want::Party(party.clone())])?;
        if self.states.get(party).is_none() {
            let state = PartyState {
                party: party.clone(),
                epoch: 0,
                submissions: self.journal(party, Direction::Submissions.number(), 0),
                deliveries: self.journal(party, Direction::Deliveries.number(), 0),
                head: Place::root(party, Direction::Submissions, 0),
                acknowledged: Place::root(party, Direction::Submissions, 0),
                delivered: 0,
                delivered_acknowledged: Place::root(party, Direction::Deliveries, 0),
                consumed: 0,
                token: None,
                copy: None,
                aside_journal: 0,
                aside_from: 1,
                aside_to: 0,
                counts: Counts::default(),
            };
            self.states.set(party.clone(), state);
        }
        self.states
            .edit(party)
            .ok_or_else(|| super::damaged("a party's state").into())
    }

    /// The number of a journal of a party that is here; given if it has none.
    pub(super) fn journal(&mut self, party: &PartyId, direction: u8, epoch: u64) -> i64 {
        let key = (party.clone(), direction, epoch);
        if let Some(journal) = self.journals.get(&key) {
            return *journal;
        }
        self.numbers.journal += 1;
        self.journals.set(key, self.numbers.journal);
        self.numbers.journal
    }

    /// The journal of what was set aside.
    pub(super) fn aside_journal(&mut self, party: &PartyId) -> i64 {
        self.journal(party, ASIDE, 0)
    }

    /// Epochs of a party that is here, which have ended, the oldest first.
    pub(super) fn ended_of(&self, party: &PartyId) -> Vec<(u64, Ended)> {
        let all = (party.clone(), 0)..=(party.clone(), u64::MAX);
        let found = self.ended.range(all).into_iter();
        found.map(|((_, epoch), ended)| (epoch, ended)).collect()
    }

    pub(super) fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    /// By what the same content is known again.
    pub(super) fn mac(&self, handover_digest: &Digest) -> [u8; 16] {
        crate::store::judging::mac(&self.dedup_key, handover_digest)
    }
}

/// The want of an event.
pub(super) fn of_event(event: &EventId) -> Want {
    Want::Event(*event.as_bytes())
}

/// The want of a complaint, as a party knows it.
pub(super) fn of_complaint(party: &PartyId, complaint: &ComplaintId) -> Want {
    Want::View(party.clone(), *complaint.as_bytes())
}
