//! What the hub has said of the fleet's submissions.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::domain::{Decision, Outcome, PartyId};

/// Longest wait without any progress.
const STUCK: Duration = Duration::from_secs(120);
/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Counts what all parties are told.
#[derive(Debug)]
pub(super) struct Ledger {
    acknowledged: AtomicU64,
    decided: AtomicU64,
    /// A place for each submission that may be under way.
    room: Semaphore,
    /// From the hand-over to the acknowledgement, while somebody measures.
    took: Mutex<Option<Vec<Duration>>>,
    /// The first that the hub did not accept, and why.
    refused: Mutex<Option<String>>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            acknowledged: AtomicU64::new(0),
            decided: AtomicU64::new(0),
            room: Semaphore::new(0),
            took: Mutex::new(None),
            refused: Mutex::new(None),
        }
    }

    /// These have been acknowledged, so long after each was handed over.
    pub(super) fn acknowledged(&self, took: &[Duration]) {
        if let Some(samples) = &mut *lock(&self.took) {
            samples.extend(took);
        }
        self.acknowledged
            .fetch_add(took.len() as u64, Ordering::Relaxed);
        self.room.add_permits(took.len());
    }

    /// The hub's decisions have come.
    pub(super) fn decided(&self, party: &PartyId, decisions: &[Decision]) {
        self.decided
            .fetch_add(decisions.len() as u64, Ordering::Relaxed);
        let other = decisions
            .iter()
            .find(|decision| decision.outcome != Outcome::Accepted);
        if let Some(decision) = other {
            let why = decision.rejection.as_ref();
            let why = why.map_or_else(String::new, |why| format!(": {}", why.text_en));
            lock(&self.refused).get_or_insert_with(|| {
                format!("of {party} the hub found {:?}{why}", decision.outcome)
            });
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets so many be under way at once, from now on; whoever hands over asks
    /// for a place with [`Ledger::place`] first.
    pub(super) fn let_in(&self, places: usize) {
        self.room.forget_permits(usize::MAX);
        self.room.add_permits(places);
    }

    /// Waits until one more may be under way.
    pub(super) async fn place(&self) {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
    }

    /// Begins to keep how long each takes.
    pub(super) fn measure(&self) {
        *lock(&self.took) = Some(Vec::new());
    }

    /// What was kept, sorted.
    pub(super) fn measured(&self) -> Vec<Duration> {
        let mut took = lock(&self.took).take().unwrap_or_default();
        took.sort_unstable();
        took
    }

    /// Waits until so many are acknowledged.
    ///
    /// # Errors
    /// Nothing comes any more.
    pub(super) async fn acknowledged_all(&self, wanted: u64) -> anyhow::Result<()> {
        self.until(&self.acknowledged, wanted, "acknowledged").await
    }

    /// Waits until so many are decided, and each of them accepted.
    ///
    /// # Errors
    /// Nothing comes any more, or the hub did not accept one.
    pub(super) async fn accepted_all(&self, wanted: u64) -> anyhow::Result<()> {
        self.until(&self.decided, wanted, "decided").await?;
        match &*lock(&self.refused) {
            None => Ok(()),
            Some(why) => anyhow::bail!("{why}"),
        }
    }

    async fn until(&self, counted: &AtomicU64, wanted: u64, what: &str) -> anyhow::Result<()> {
        let mut last = (0, Instant::now());
        loop {
            let count = counted.load(Ordering::Relaxed);
            if count >= wanted {
                return Ok(());
            }
            if count > last.0 {
                last = (count, Instant::now());
            }
            anyhow::ensure!(
                last.1.elapsed() < STUCK,
                "no progress: {count} of {wanted} submissions are {what}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn lock<T>(held: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
