//! What a replica has to write, and what of it is committed together.

use tokio::sync::{mpsc, oneshot};

use crate::{
    domain::{Decision, Micros, PartyId},
    exchange::Place,
    store::{AcceptBatch, NewSubmission, Receipt, StoreError, SubmitRefusal},
};

use super::{again::Settling, damaged};

/// Jobs of one batch, at most.
const JOBS_PER_BATCH: usize = 512;
/// Entries of one batch, at most; a larger job is a batch of its own.
const ENTRIES_PER_BATCH: usize = 2_048;

/// Something to write.
#[derive(Debug)]
pub(super) enum Work {
    /// A frame of a party.
    Accept(PartyId, AcceptBatch),
    /// Hand-overs at the hub's own door.
    Submit(Vec<NewSubmission>, Micros),
    /// A node holds its deliveries through here.
    Held(PartyId, Place),
    /// A page of open complaints that may have a new reader, by their rows.
    Retell(Vec<i64>, Micros),
    /// What is parked gets another word; a batch of its own.
    Settle(Box<Settling>),
    /// Nothing but the commit.
    Probe,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Nothing,
    Accepted(Place),
    Submitted(Vec<Result<Receipt, SubmitRefusal>>),
    Settled(Option<Box<Decision>>),
}

impl Done {
    pub(super) fn place(self) -> Result<Place, StoreError> {
        match self {
            Self::Accepted(place) => Ok(place),
            _ => Err(damaged("an answer that fits no frame")),
        }
    }

    pub(super) fn receipts(self) -> Result<Vec<Result<Receipt, SubmitRefusal>>, StoreError> {
        match self {
            Self::Submitted(receipts) => Ok(receipts),
            _ => Err(damaged("an answer that fits no hand-over")),
        }
    }

    pub(super) fn decision(self) -> Result<Option<Decision>, StoreError> {
        match self {
            Self::Settled(decision) => Ok(decision.map(|found| *found)),
            _ => Err(damaged("an answer that fits no settling")),
        }
    }
}

/// Something to write, and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) tell: oneshot::Sender<Result<Done, StoreError>>,
}

impl Job {
    pub(super) fn entries(&self) -> usize {
        match &self.work {
            Work::Accept(_, batch) => batch.entries.len(),
            Work::Submit(batch, _) => batch.len(),
            Work::Retell(rows, _) => rows.len(),
            Work::Settle(_) | Work::Held(..) | Work::Probe => 1,
        }
    }

    /// Whatever is decided beside a settling would not see what it changes.
    fn is_alone(&self) -> bool {
        matches!(self.work, Work::Settle(_))
    }

    /// A peer tells again how far it is: nobody waits for that to be written.
    fn can_wait(&self) -> bool {
        matches!(self.work, Work::Held(..))
    }

    pub(super) fn answer(self, outcome: Result<Done, StoreError>) {
        // Nobody waits any more: what was written stays written.
        let _ = self.tell.send(outcome);
    }
}

/// Jobs that are committed together.
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    entries: usize,
}

impl Batch {
    pub(super) fn of(first: Job) -> Self {
        Self {
            entries: first.entries(),
            jobs: vec![first],
        }
    }

    /// Takes what waits already; gives back what is for the next batch.
    pub(super) fn fill(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.has_room()
            && let Ok(job) = queue.try_recv()
        {
            let left = self.add(job);
            if left.is_some() {
                return left;
            }
        }
        None
    }

    /// Takes this one, or gives it back for the next batch.
    pub(super) fn add(&mut self, job: Job) -> Option<Job> {
        let entries = self.entries + job.entries();
        if entries > ENTRIES_PER_BATCH || job.is_alone() {
            return Some(job);
        }
        self.entries = entries;
        self.jobs.push(job);
        None
    }

    fn has_room(&self) -> bool {
        self.jobs.len() < JOBS_PER_BATCH && !self.jobs.first().is_some_and(Job::is_alone)
    }

    /// Whether nobody waits for any of it.
    pub(super) fn can_wait(&self) -> bool {
        self.has_room() && self.jobs.iter().all(Job::can_wait)
    }
}
