//! The one writer of a replica: it joins what waits into a batch, commits
//! once, and only then answers all.
//!
//! A batch that lost a race is read and decided anew; one that keeps losing,
//! or that holds something which the server does not take, is carried out item
//! by item. A commit whose outcome is unknown is read back: the next line
//! raises the replica's generation, which waits for whatever the lost one is
//! still doing and shuts out what it has not begun, and then finds the number
//! of the last batch that was committed.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{domain::PartyId, runtime::random_unit, store::StoreError};

use super::{
    Shared,
    again::{self, How},
    connect::Line,
    decide::Deciding,
    directory,
    error::{Failure, doubtful, not_known},
    guard,
    jobs::{Batch, Done, Job, Work},
    plan::Plan,
    retell,
    session::{Session, execute, maybe, one},
    told,
    world::{self, Wanted, World},
    writes::{COMMIT, Writer, Writes},
};

/// How long what nobody waits for waits for a commit that comes anyhow.
const PATIENCE: Duration = Duration::from_millis(5);
/// Times that a batch is tried as a whole.
const ATTEMPTS_TOGETHER: u32 = 3;
/// Times that one item is tried alone.
const ATTEMPTS_ALONE: u32 = 30;
/// How long a lost outcome is looked for before its callers are told.
pub(super) const LOOK_FOR: Duration = Duration::from_secs(20);
/// Longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a server that can't be reached is left alone between two looks.
pub(super) const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long taking the replica's row away may take.
const GRACE: Duration = Duration::from_secs(2);

/// What one attempt at a batch came to.
enum Attempt {
    Committed(Vec<Done>, BTreeSet<PartyId>),
    /// This job can't be carried out; the others can.
    JobFailed(usize, StoreError),
    Failed(Failure),
}

/// A batch that has been decided.
struct Prepared {
    done: Vec<Done>,
    touched: BTreeSet<PartyId>,
    writes: Writes,
}

/// A line, and the replica's row as this line has taken it.
struct Held {
    line: Line,
    writer: Writer,
}

struct Replica {
    shared: Arc<Shared>,
    /// The replica's row, once it has one.
    row: Option<i64>,
    batch: i64,
    held: Option<Held>,
    /// The last attempt waited in vain for what another commit holds.
    is_blocked: bool,
}

/// Runs until nobody can write any more, or it is told to stop; then what
/// waits is still carried out.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<Job>,
    stop: CancellationToken,
) {
    let mut replica = Replica {
        shared,
        row: None,
        batch: 0,
        held: None,
        is_blocked: false,
    };
    let mut left: Option<Job> = None;
    loop {
        let first = match left.take() {
            Some(job) => job,
            None => tokio::select! {
                biased;
                job = queue.recv() => match job {
                    Some(job) => job,
                    None => break,
                },
                () = stop.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            },
        };
        let mut batch = Batch::of(first);
        left = batch.fill(&mut queue);
        // Nobody waits for it: a commit that comes anyhow takes it along.
        let until = Instant::now() + PATIENCE;
        while left.is_none() && batch.can_wait() {
            let Ok(Some(job)) = timeout_at(until, queue.recv()).await else {
                break;
            };
            left = batch.add(job).or_else(|| batch.fill(&mut queue));
        }
        let jobs = batch.jobs;
        replica.carry_out(jobs).await;
    }
    replica.leave().await;
}

impl Replica {
    async fn carry_out(&mut self, jobs: Vec<Job>) {
        let until = Instant::now() + LOOK_FOR;
        for job in self.together(jobs, ATTEMPTS_TOGETHER, until).await {
            // One after the other they would wait for hours.
            let unfit = match self.is_blocked && Instant::now() >= until {
                true => vec![job],
                false => self.together(vec![job], ATTEMPTS_ALONE, until).await,
            };
            for job in unfit {
                job.answer(Err(Failure::given_up(self.is_blocked)));
            }
        }
    }

    /// Tries some jobs as one batch; those that come back are unanswered. What
    /// others block is tried until then.
    async fn together(&mut self, mut jobs: Vec<Job>, attempts: u32, until: Instant) -> Vec<Job> {
        let mut tried = 0;
        while tried < attempts && !jobs.is_empty() {
            let attempt = self.attempt(&jobs).await;
            self.is_blocked = matches!(attempt, Attempt::Failed(Failure::Blocked));
            match attempt {
                Attempt::Committed(done, touched) => {
                    for (job, done) in jobs.into_iter().zip(done) {
                        job.answer(Ok(done));
                    }
                    self.shared.wakers.changed_here(touched);
                    return Vec::new();
                }
                Attempt::JobFailed(place, error) => {
                    jobs.remove(place).answer(Err(error));
                    continue;
                }
                Attempt::Failed(Failure::Blocked) if jobs.len() > 1 || Instant::now() >= until => {
                    return jobs;
                }
                Attempt::Failed(Failure::Moved | Failure::Blocked) => {
                    tracing::debug!(event = "postgres_batch_again", jobs = jobs.len());
                }
                Attempt::Failed(failure) if jobs.len() > 1 && failure.is_of_one() => return jobs,
                Attempt::Failed(failure) => {
                    let error = failure.into_error();
                    tracing::error!(event = "store_commit_failed", %error);
                    for job in jobs {
                        job.answer(Err(error.clone()));
                    }
                    return Vec::new();
                }
            }
            tried += 1;
            // Two replicas at the same heads must not keep step.
            sleep(PAUSE.mul_f64(random_unit())).await;
        }
        jobs
    }

    async fn attempt(&mut self, jobs: &[Job]) -> Attempt {
        if self.shared.database.takes_new_line() {
            self.held = None;
        }
        if self.held.is_none()
            && let Err(failure) = self.hold().await
        {
            return Attempt::Failed(failure);
        }
        let prepared = timeout(self.limit(), self.prepare(jobs)).await;
        let prepared = prepared.unwrap_or_else(|_| Err(Attempt::Failed(silent())));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            // Nothing was written yet: a new line may do.
            Err(Attempt::Failed(Failure::Lost(why))) => {
                tracing::debug!(event = "postgres_line_lost", %why);
                self.held = None;
                return Attempt::Failed(Failure::Moved);
            }
            Err(failed) => return failed,
        };
        match self.commit(&prepared.writes).await {
            Ok(()) => {
                self.shared.database.guard.committed(self.batch);
                Attempt::Committed(prepared.done, prepared.touched)
            }
            Err(failure) => Attempt::Failed(failure),
        }
    }

    /// Reads what is there, decides, and lays out what is to be written.
    async fn prepare(&self, jobs: &[Job]) -> Result<Prepared, Attempt> {
        let shared = &self.shared;
        let Some(held) = &self.held else {
            return Err(Attempt::Failed(Failure::Moved));
        };
        let client = held.line.client();
        let is_decided = jobs
            .iter()
            .any(|job| !matches!(job.work, Work::Held(..) | Work::Probe));
        let world = match is_decided {
            true => self.known(client, jobs).await?,
            false => World::default(),
        };
        let (done, mut world, mut plan) = decide_all(shared, jobs, world)?;
        let tells = std::mem::take(&mut plan.tells);
        let lacking = told::lacking(&tells, &world);
        world
            .load_history(client, &lacking)
            .await
            .map_err(Attempt::Failed)?;
        let told = told::deliveries(tells, &world, &*shared.encoder);
        let told = told.map_err(|error| Attempt::Failed(error.into()))?;
        let changed = world.heads.iter().filter(|(_, head)| head.is_changed);
        let mut touched: BTreeSet<PartyId> = changed.map(|(party, _)| party.clone()).collect();
        touched.extend(plan.holders().cloned());
        let readers = told.iter().map(|row| PartyId::parse(&row.party));
        touched.extend(readers.flatten());
        let mut writes = plan
            .into_writes(&world, is_decided)
            .map_err(|error| Attempt::Failed(error.into()))?;
        writes.deliveries = told;
        Ok(Prepared {
            done,
            touched,
            writes,
        })
    }

    /// What these jobs need to know, by the directory that the server has now.
    async fn known(&self, client: &Session, jobs: &[Job]) -> Result<World, Attempt> {
        let shared = &self.shared;
        begin_parties(client, shared, jobs)
            .await
            .map_err(Attempt::Failed)?;
        let mut world = World::load(client, &wanted(jobs))
            .await
            .map_err(Attempt::Failed)?;
        if let [job] = jobs
            && let Work::Settle(settling) = &job.work
        {
            let parked = again::load(client, settling).await;
            let parked = parked.map_err(|error| Attempt::Failed(error.into()))?;
            if let Some(parked) = parked {
                world.add_parked(parked);
            }
        }
        let before = shared.known().version;
        if world.directory_version != before {
            let now = directory::read_registry(client).await;
            shared.learn_anew(before, now.map_err(|error| Attempt::Failed(error.into()))?);
            return Err(Attempt::Failed(Failure::Moved));
        }
        Ok(world)
    }

    /// A server that is silent for longer is gone.
    fn limit(&self) -> Duration {
        self.shared.database.limit()
    }

    /// Takes a new line. From then on nothing that an earlier one has left can
    /// commit; says the last batch that was.
    async fn hold(&mut self) -> Result<i64, Failure> {
        let limit = self.shared.database.line_within() + self.limit();
        timeout(limit, self.take_line())
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    async fn take_line(&mut self) -> Result<i64, Failure> {
        let line = self.shared.database.line().await?;
        let client = line.client();
        let taken = match self.row {
            Some(id) => {
                maybe(
                    client,
                    "UPDATE replica SET generation = generation + 1 WHERE id = $1 \
                     RETURNING id, generation, batch",
                    &[&id],
                )
                .await?
            }
            None => None,
        };
        let row = match taken {
            Some(row) => row,
            None => {
                let first = guard::first_generation();
                one(client, guard::NEW_ROW, &[&first]).await?
            }
        };
        if line.is_doubtful() {
            return Err(doubtful());
        }
        let prepared = async {
            world::prepare(client).await?;
            client.prepare_cached(COMMIT).await
        };
        client.within(prepared).await?;
        self.shared.database.settle(client.serving());
        let (replica, generation, committed) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get::<_, i64>(2)?);
        self.row = Some(replica);
        self.batch = self.batch.max(committed);
        self.shared
            .database
            .guard
            .taken(replica, generation, committed);
        self.held = Some(Held {
            line,
            writer: Writer {
                replica,
                generation,
                batch: 0,
            },
        });
        Ok(committed)
    }

    async fn commit(&mut self, writes: &Writes) -> Result<(), Failure> {
        self.batch += 1;
        let Some(held) = &self.held else {
            return Err(Failure::Moved);
        };
        let writer = Writer {
            batch: self.batch,
            ..held.writer
        };
        let outcome = timeout(self.limit(), writes.commit(&held.line, writer)).await;
        let why = match outcome.unwrap_or_else(|_| Err(silent())) {
            Ok(()) if held.line.is_doubtful() => {
                "the server does not know whether its standbys have it".to_owned()
            }
            Err(Failure::Lost(why)) => why,
            outcome => return outcome,
        };
        tracing::warn!(event = "commit_in_doubt", batch = self.batch, %why);
        self.read_back(self.batch, why).await
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
                Err(error) if Instant::now() >= until => {
                    return Err(Failure::Lost(not_known(&why, error)));
                }
                Err(_) => sleep(RECONNECT_PAUSE).await,
            }
        }
    }

    /// Takes the replica's row away: it will not come back.
    async fn leave(mut self) {
        if let (Some(held), Some(row)) = (self.held.take(), self.row) {
            let sql = "DELETE FROM replica WHERE id = $1";
            self.shared.database.guard.leaves();
            let gone = async { execute(held.line.client(), sql, &[&row]).await };
            if let Ok(Err(error)) = timeout(GRACE, gone).await {
                let error = StoreError::from(error);
                tracing::debug!(event = "replica_row_stays", %error);
            }
        }
    }
}

pub(super) fn silent() -> Failure {
    Failure::Lost("the server said nothing any more".to_owned())
}

/// Parties behind the hub's own door begin with their first hand-over.
async fn begin_parties(client: &Session, shared: &Shared, jobs: &[Job]) -> Result<(), Failure> {
    let mut parties = BTreeSet::new();
    for job in jobs {
        if let Work::Submit(batch, _) = &job.work {
            parties.extend(batch.iter().map(|new| &new.party));
        }
    }
    for party in parties {
        let is_known = shared
            .known()
            .registry
            .directory
            .parties
            .contains_key(party);
        // Whoever is registered has begun already.
        if !is_known {
            directory::begin_party(client, shared, party).await?;
        }
    }
    Ok(())
}

/// What deciding these jobs may look at.
fn wanted(jobs: &[Job]) -> Wanted {
    let mut wanted = Wanted::default();
    for job in jobs {
        match &job.work {
            Work::Accept(party, batch) => {
                wanted.parties.insert(party.clone());
                let events = batch.entries.iter();
                for event in events.filter_map(|incoming| incoming.event.as_ref().ok()) {
                    wanted.add(event);
                }
            }
            Work::Submit(batch, _) => {
                for new in batch {
                    wanted.parties.insert(new.party.clone());
                    wanted.add(&new.event);
                }
            }
            Work::Retell(rows, _) => wanted.rows.extend(rows),
            Work::Settle(settling) => {
                wanted.parties.insert(settling.party.clone());
                if let How::Decide(event) = &settling.how {
                    wanted.add(event);
                }
            }
            Work::Held(..) | Work::Probe => {}
        }
    }
    wanted
}

/// Decides all jobs in order; the first that can't be carried out ends it.
fn decide_all(
    shared: &Shared,
    jobs: &[Job],
    world: World,
) -> Result<(Vec<Done>, World, Plan), Attempt> {
    let known = shared.known();
    let mut deciding = Deciding {
        shared,
        directory: &known.registry.directory,
        world,
        plan: Plan::default(),
    };
    let mut all = Vec::with_capacity(jobs.len());
    for (place, job) in jobs.iter().enumerate() {
        let one = catch_unwind(AssertUnwindSafe(|| decide_one(&mut deciding, &job.work)));
        let outcome = one.unwrap_or_else(|_| {
            tracing::error!(
                event = "store_job_panicked",
                "a bug: nothing of this was written, the others go on"
            );
            Err(StoreError::Unavailable(
                "an internal error; nothing of this was stored".to_owned(),
            ))
        });
        match outcome {
            Ok(done) => all.push(done),
            Err(error) => return Err(Attempt::JobFailed(place, error)),
        }
    }
    Ok((all, deciding.world, deciding.plan))
}

fn decide_one(deciding: &mut Deciding<'_>, work: &Work) -> Result<Done, StoreError> {
    match work {
        Work::Accept(party, batch) => deciding.accept(party, batch).map(Done::Accepted),
        Work::Submit(batch, now) => deciding.submit(batch, *now).map(Done::Submitted),
        Work::Held(party, place) => {
            deciding.plan.hold(party, *place);
            Ok(Done::Nothing)
        }
        Work::Retell(rows, now) => {
            retell::tell_new_readers(deciding, rows, *now);
            Ok(Done::Nothing)
        }
        Work::Settle(settling) => {
            let settled = deciding.settle(settling)?;
            Ok(Done::Settled(settled.map(Box::new)))
        }
        Work::Probe => Ok(Done::Nothing),
    }
}
