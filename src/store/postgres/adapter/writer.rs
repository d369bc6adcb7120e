//! The one writer of an adapter: it joins what waits into a batch, commits once, and
//! only then answers all.
//!
//! Invariants: an answer comes after a commit that the server has made durable; a job
//! that fails, or panics, leaves nothing behind and touches none of its neighbours; a
//! commit whose outcome is unknown is read back before anything is answered.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    domain::PartyId,
    store::{StoreError, memory::Fresh, standing::PartyState},
};

use super::{
    super::{
        connect::Line,
        error::{Failure, not_known},
        writer::{LOOK_FOR, RECONNECT_PAUSE, silent},
    },
    Shared,
    alone::Alone,
    hold::{self, Own},
    load,
    queue::Queue,
    save::{FENCE, Statements},
    world::{Step, World},
};

/// Times that a batch is tried.
const ATTEMPTS: u32 = 5;
/// Times that a batch may name what it lacks, and be done again: rules need one or
/// two.
const ROUNDS: u32 = 64;
/// How long letting the lock go may take.
const GRACE: Duration = Duration::from_secs(2);

/// Something to write that shares a batch with others.
pub(super) trait Job: Send {
    /// Does it in this world; `false`: it has named what it lacks.
    fn attempt(&mut self, world: &mut World) -> bool;
    /// Of these parties nothing may wait to be appended again.
    fn goes_again(&self) -> &[PartyId];
    /// How much it writes, in bytes, about.
    fn size_bytes(&self) -> usize;
    /// The batch was committed, or why not.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// See [`job`].
struct Typed<T, F> {
    work: F,
    goes_again: Vec<PartyId>,
    size_bytes: usize,
    outcome: Option<Result<T, StoreError>>,
    tell: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Typed<T, F>
where
    T: Send,
    F: Fn(&mut World) -> Step<T> + Send,
{
    fn attempt(&mut self, world: &mut World) -> bool {
        let ran = catch_unwind(AssertUnwindSafe(|| world.run(&self.work)));
        let outcome = match ran {
            Ok(outcome) => outcome,
            // It went on without something that it has named: that may be why.
            Err(_) if world.is_short() => {
                world.drop_job();
                return false;
            }
            Err(_) => {
                world.drop_job();
                tracing::error!(
                    event = "store_job_panicked",
                    "a bug: this write was undone, the others go on"
                );
                Err(StoreError::Unavailable(
                    "an internal error; nothing of this was stored".to_owned(),
                ))
            }
        };
        self.outcome = outcome.transpose();
        self.outcome.is_some()
    }

    fn goes_again(&self) -> &[PartyId] {
        &self.goes_again
    }

    fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = self.outcome.unwrap_or(Err(StoreError::Closed));
        // Nobody waits any more: what was written stays written.
        let _ = self.tell.send(committed.and(outcome));
    }
}

/// Makes a job of something that answers. It may be done more than once: only the
/// last time counts.
pub(super) fn job<T: Send + 'static>(
    goes_again: Vec<PartyId>,
    size_bytes: usize,
    work: impl Fn(&mut World) -> Step<T> + Send + 'static,
) -> (Box<dyn Job>, oneshot::Receiver<Result<T, StoreError>>) {
    let (tell, told) = oneshot::channel();
    let job = Typed {
        work,
        goes_again,
        size_bytes,
        outcome: None,
        tell,
    };
    (Box::new(job), told)
}

/// What a batch leaves in memory once it is committed.
type Left = (Vec<PartyState>, Vec<Fresh>, BTreeSet<PartyId>);

/// What is to be done next.
pub(super) enum Next {
    Together(Vec<Box<dyn Job>>),
    Alone(Alone),
}

/// The writer, and the line that it holds.
pub(super) struct Writer {
    shared: Arc<Shared>,
    world: World,
    own: Option<Own>,
    /// The number of the batch at work.
    batch: i64,
    held: Option<Line>,
}

impl Writer {
    /// Takes the lock: from now on nobody else writes here.
    ///
    /// # Errors
    /// Another process has it, or the server can't be reached.
    pub(super) async fn begin(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let world = World::new(shared.dedup_key.clone(), shared.clock.clone());
        let mut writer = Self {
            shared,
            world,
            own: None,
            batch: 0,
            held: None,
        };
        writer.hold().await.map_err(Failure::into_error)?;
        Ok(writer)
    }

    /// Runs until it is told to close, or nobody can write any more.
    pub(super) async fn run(mut self, mut queue: Queue) {
        while let Some(next) = queue.next().await {
            match next {
                Next::Together(jobs) => self.carry_out(jobs).await,
                Next::Alone(alone) => self.carry_out_alone(alone).await,
            }
        }
        if let Some(line) = self.held.take() {
            let client = line.client();
            let let_go = client.batch_execute("SELECT pg_advisory_unlock_all()");
            if let Ok(Err(error)) = timeout(GRACE, let_go).await {
                tracing::debug!(event = "lock_let_go_with_its_line", %error);
            }
        }
        queue.closed();
    }

    async fn carry_out(&mut self, jobs: Vec<Box<dyn Job>>) {
        let until = Instant::now() + LOOK_FOR;
        if let Err((jobs, error)) = self.together(jobs, until).await {
            if jobs.len() > 1 && error.is_of_one() {
                for job in jobs {
                    if let Err((alone, error)) = self.together(vec![job], until).await {
                        refuse(alone, error.into_error());
                    }
                }
            } else {
                refuse(jobs, error.into_error());
            }
        }
    }

    /// Carries jobs out as one batch, and answers them; those that come back are
    /// unanswered. After that moment no attempt begins but the first.
    async fn together(
        &mut self,
        mut jobs: Vec<Box<dyn Job>>,
        until: Instant,
    ) -> Result<(), (Vec<Box<dyn Job>>, Failure)> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.attempt(&mut jobs).await {
                Ok(left) => {
                    self.publish(left);
                    for job in jobs {
                        job.answer(Ok(()));
                    }
                    return Ok(());
                }
                Err(failure) => {
                    self.nothing_holds();
                    let may_go_again = matches!(failure, Failure::Moved | Failure::Lost(_));
                    if !may_go_again || tried == ATTEMPTS || Instant::now() >= until {
                        return Err((jobs, failure));
                    }
                    tracing::debug!(event = "postgres_batch_again", jobs = jobs.len(), ?failure);
                }
            }
        }
    }

    /// What is in memory may be ahead of the database.
    fn nothing_holds(&mut self) {
        self.world.forget_all();
        self.shared.memory.forget_all();
        if self
            .held
            .as_ref()
            .is_some_and(|line| !line.client().is_fit())
        {
            self.held = None;
        }
    }

    fn publish(&self, (states, fresh, touched): Left) {
        self.shared.memory.publish(states.iter(), fresh);
        // First those who pass it on: a peer waits for them.
        for party in &touched {
            self.shared.wakers.wake(party);
        }
    }

    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Left, Failure> {
        self.ready().await?;
        let parties: BTreeSet<PartyId> = jobs
            .iter()
            .flat_map(|job| job.goes_again().to_vec())
            .collect();
        for party in parties {
            // What was set aside goes before anything newer.
            while self.waits_to_go_again(&party) {
                let alone = Alone::Reappend(party.clone(), None);
                self.attempt_alone(&alone).await?;
            }
        }
        self.world.begin_batch();
        for _ in 0..ROUNDS {
            let mut is_done = true;
            for job in jobs.iter_mut() {
                is_done &= job.attempt(&mut self.world);
            }
            if is_done {
                return self.commit(None).await;
            }
            self.lacking().await?;
        }
        Err(Failure::Refused(super::damaged(
            "a write that always lacks something",
        )))
    }

    /// Reads what jobs have named; they begin anew.
    async fn lacking(&mut self) -> Result<(), Failure> {
        let wants = self.world.take_wants();
        self.world.drop_batch();
        let Some(line) = &self.held else {
            return Err(Failure::Moved);
        };
        load::load(line.client(), &mut self.world, &wants).await
    }

    fn waits_to_go_again(&self, party: &PartyId) -> bool {
        let state = self.world.states.get(party);
        state.is_some_and(|state| state.aside_from <= state.aside_to)
    }

    async fn carry_out_alone(&mut self, mut alone: Alone) {
        let until = Instant::now() + LOOK_FOR;
        let mut tried = 0;
        loop {
            tried += 1;
            match self.attempt_alone(&alone).await {
                Ok(done) => return alone.answer(Ok(done)),
                Err(failure) => {
                    self.nothing_holds();
                    let may_go_again = matches!(failure, Failure::Moved | Failure::Lost(_));
                    if !may_go_again || tried == ATTEMPTS || Instant::now() >= until {
                        return alone.answer(Err(failure.into_error()));
                    }
                }
            }
        }
    }

    /// Carries out what has a transaction of its own.
    async fn attempt_alone(&mut self, alone: &Alone) -> Result<super::alone::Done, Failure> {
        self.ready().await?;
        self.world.begin_batch();
        let writer = self.next_batch();
        let Some(line) = &self.held else {
            return Err(Failure::Moved);
        };
        let client = line.client();
        client.unsettled();
        client.within(client.batch_execute("BEGIN")).await?;
        let begun = async {
            let (generation, batch) = writer;
            super::super::session::one(client, FENCE, &[&generation, &batch]).await?;
            alone.carry_out(client, &mut self.world).await
        };
        let done = match begun.await {
            Ok(done) => done,
            Err(failure) => {
                let back = client.within(client.batch_execute("ROLLBACK")).await;
                if back.is_ok() {
                    client.settled();
                }
                return Err(failure);
            }
        };
        client.settled();
        self.world.keep_job();
        let left = self.commit(Some(writer)).await?;
        self.publish(left);
        Ok(done)
    }

    fn next_batch(&mut self) -> (i64, i64) {
        self.batch += 1;
        let generation = self.own.map_or(0, |own| own.generation);
        (generation, self.batch)
    }

    /// Commits the world's batch; of one that has begun, the transaction that is
    /// open.
    async fn commit(&mut self, begun: Option<(i64, i64)>) -> Result<Left, Failure> {
        let statements = Statements::of(&self.world)?;
        let left = self.world.left();
        let (writer, fence) = match begun {
            Some(writer) => (writer, None),
            None => {
                let writer = self.next_batch();
                (writer, Some(writer))
            }
        };
        let Some(line) = &self.held else {
            return Err(Failure::Moved);
        };
        let why = match statements.commit(line.client(), fence).await {
            Ok(()) if line.is_doubtful() => {
                "the server does not know whether its standbys have it".to_owned()
            }
            Err(Failure::Lost(why)) => why,
            Ok(()) => {
                self.world.keep_batch();
                if let Some(own) = &mut self.own {
                    own.batch = writer.1;
                }
                return Ok(left);
            }
            Err(failure) => return Err(failure),
        };
        tracing::warn!(event = "commit_in_doubt", batch = writer.1, %why);
        self.read_back(writer.1, why).await?;
        Ok(left)
    }

    /// Finds out whether a batch was committed.
    async fn read_back(&mut self, batch: i64, why: String) -> Result<(), Failure> {
        let until = Instant::now() + LOOK_FOR;
        loop {
            self.held = None;
            match self.hold().await {
                Ok(committed) if committed == batch => {
                    tracing::info!(event = "commit_found", batch);
                    return Ok(());
                }
                Ok(_) => {
                    tracing::info!(event = "commit_not_found", batch);
                    return Err(Failure::Moved);
                }
                // Somebody else writes now: it will not be known here.
                Err(error) if self.shared.left_behind.check().is_err() => return Err(error),
                Err(error) if Instant::now() >= until => {
                    let why = StoreError::Unavailable(not_known(&why, error));
                    return Err(Failure::Refused(why));
                }
                Err(_) => sleep(RECONNECT_PAUSE).await,
            }
        }
    }

    /// A line, and every party known.
    async fn ready(&mut self) -> Result<(), Failure> {
        let is_old = self.shared.database.takes_new_line();
        if is_old
            || self
                .held
                .as_ref()
                .is_some_and(|line| !line.client().is_fit())
        {
            self.held = None;
        }
        match &self.held {
            None => {
                self.hold().await?;
            }
            Some(line) if !self.world.is_whole => {
                load::whole(line.client(), &mut self.world).await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Takes a new line. From then on nothing that an earlier one has left can
    /// commit; says the last batch that was.
    async fn hold(&mut self) -> Result<i64, Failure> {
        let shared = self.shared.clone();
        let limit = shared.database.line_within() + shared.database.limit();
        let taken = hold::take(
            &shared.database,
            shared.process,
            self.own,
            &shared.left_behind,
        );
        let (line, own) = timeout(limit, taken)
            .await
            .unwrap_or_else(|_| Err(silent()))?;
        self.world.forget_all();
        load::whole(line.client(), &mut self.world).await?;
        self.own = Some(own);
        self.batch = self.batch.max(own.batch);
        self.held = Some(line);
        Ok(own.batch)
    }
}

fn refuse(jobs: Vec<Box<dyn Job>>, error: StoreError) {
    tracing::error!(event = "store_commit_failed", %error);
    for job in jobs {
        job.answer(Err(error.clone()));
    }
}
