//! The driver of an open session: it waits, feeds what happened to the
//! session, and carries out what the session asks for.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Code, Status, Streaming};

use crate::{
    domain::{Micros, MinimumVersion},
    exchange::{
        Direction, Drain, DrainReason, Effect, End, Entry, Frame, Heartbeat, HeartbeatFacts, Input,
        Place, Session, Violation,
    },
    runtime::Clock,
    store::{Heads, StoreError, entry_size},
    wire,
};

use super::{envelope::Envelope, side::Side, software, state::LinkState};

/// How soon a drained peer may come back.
const COME_BACK_MS: u32 = 1_000;
/// How long a peer that was fenced stays away.
const FENCED_MS: u32 = 60_000;
/// Longest wait for a line that takes no frame any more.
const LINE_STUCK: Duration = Duration::from_secs(60);

/// Why a link ended.
#[derive(Debug)]
pub enum LinkEnd {
    /// By the protocol.
    Session(End),
    /// The peer said why, or the connection was lost.
    Status(Box<Status>),
    /// The peer closed the stream without a word.
    Closed,
    /// Our store can't go on.
    Store(StoreError),
    /// The two ends hold different journals: a person has to decide.
    Mismatch {
        /// `JOURNAL_FORKED` or `HUB_BEHIND`.
        reason: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The journals were brought in line: open again at once.
    Reopen,
    /// A frame can't be read, or none came in time.
    Broken(String),
}

/// What came of a job.
enum Done {
    Read(Vec<(Entry, u64)>),
    Kept(Place),
    Compared(bool),
    CopyRead(u64, crate::domain::Digest, Vec<Entry>),
    CopyStored(Option<(u64, u64)>),
    Heads(Box<Heads>),
    Nothing,
}

/// A stream that ends by an error of ours, since the message is too large or no
/// protobuf, is the peer's fault, and it should hear so.
fn not_readable(status: Status) -> LinkEnd {
    match status.code() {
        Code::OutOfRange => LinkEnd::Session(End::Violation(Violation::TooLarge)),
        Code::Internal if status.message().contains("decode") => {
            LinkEnd::Broken("a message is no jembatan.v1 frame".to_owned())
        }
        _ => LinkEnd::Status(Box::new(status)),
    }
}

const GONE_BACK: &str = "the store holds less than this session has already seen there: it was put back to an earlier state";

/// Whether a store lacks what a session saw in it before. What the session knows
/// of the peer would be wrong then: opening it anew compares both ends.
fn has_gone_back(before: &Heads, now: &Heads) -> bool {
    now.epoch < before.epoch
        || (now.epoch == before.epoch
            && (now.submissions.position < before.submissions.position
                || now.deliveries < before.deliveries))
}

/// Keeps how far the peer's local system has come. The next heartbeat says it again,
/// so only a session that another one has replaced ends by it.
async fn consumed_at(side: Arc<impl Side>, through: u64) -> Result<Done, StoreError> {
    match side.peer_consumed(through).await {
        Ok(()) => Ok(Done::Nothing),
        Err(StoreError::Fenced) => Err(StoreError::Fenced),
        Err(error) => {
            tracing::debug!(event = "consumed_not_kept", party = %side.party(), through, %error);
            Ok(Done::Nothing)
        }
    }
}

type Job = BoxFuture<'static, Result<Done, StoreError>>;

pub(super) struct Driver<S, I, O> {
    pub(super) side: Arc<S>,
    pub(super) session: Session,
    pub(super) inbound: Streaming<I>,
    pub(super) outbound: mpsc::Sender<O>,
    pub(super) heads: Heads,
    pub(super) stop: watch::Receiver<Option<DrainReason>>,
    pub(super) state: Arc<watch::Sender<LinkState>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) certificate_expires_at: Option<Micros>,
    pub(super) minimum_version: Option<MinimumVersion>,
    pub(super) began: Instant,
    pub(super) jobs: Jobs,
}

/// What is under way at the store.
#[derive(Default)]
pub(super) struct Jobs {
    running: FuturesUnordered<Job>,
    to_keep: VecDeque<(Place, Vec<Entry>, Place)>,
    is_keeping: bool,
    to_acknowledge: Option<Place>,
    is_looking: bool,
    /// Something has changed since the look that is under way began.
    looks_again: bool,
}

impl<S: Side, I: Envelope, O: Envelope> Driver<S, I, O> {
    /// Runs until the session is over. Boxed: what a caller moves in by value it
    /// keeps room for, twice, for as long as the session lives.
    pub(super) async fn run(mut self: Box<Self>) -> LinkEnd {
        let mut changes = self.side.store().watch(self.side.party());
        let mut look = tokio::time::interval(self.side.store().look_every());
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        let mut stop_told = false;
        let mut last_progress = Instant::now();
        let mut is_line_gone = false;
        self.look();
        loop {
            let wants_line = self.session.has_frame();
            let outbound = self.outbound.clone();
            let tick = Duration::from_millis(
                self.session
                    .next_tick_ms()
                    .saturating_sub(self.now_ms())
                    // A heartbeat that is due and waits for the line needs no clock.
                    .max(if wants_line { 50 } else { 1 }),
            );
            let mut effects = Vec::new();
            let input = tokio::select! {
                biased;
                permit = outbound.reserve(), if wants_line && !is_line_gone => {
                    let Ok(permit) = permit else {
                        // The peer may have said why before it let go: read on.
                        is_line_gone = true;
                        continue;
                    };
                    last_progress = Instant::now();
                    let facts = self.facts();
                    if let Some(frame) = self.session.next_frame(|| facts, &mut effects) {
                        permit.send(O::seal(wire::frame_to_proto(frame)));
                    }
                    None
                }
                done = self.jobs.running.next(), if !self.jobs.running.is_empty() => {
                    match done.map(|done| done.and_then(|done| self.finished(done))) {
                        Some(Ok(input)) => input,
                        Some(Err(error)) => return LinkEnd::Store(error),
                        None => None,
                    }
                }
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => match self.heard(message) {
                        Ok(frame) => Some(Input::Frame(frame)),
                        Err(why) => return LinkEnd::Broken(why),
                    },
                    Ok(None) => return LinkEnd::Closed,
                    Err(status) => return not_readable(status),
                },
                _ = stop.changed(), if !stop_told => {
                    stop_told = true;
                    let reason = stop.borrow().unwrap_or(DrainReason::Stopping);
                    let retry_after_ms = match reason {
                        DrainReason::Fenced => FENCED_MS,
                        _ => COME_BACK_MS,
                    };
                    Some(Input::Drain(Drain { reason, retry_after_ms }))
                }
                _ = changes.changed() => { self.look(); None }
                _ = look.tick() => { self.look(); None }
                () = tokio::time::sleep(tick) => Some(Input::Tick),
            };
            if wants_line && last_progress.elapsed() > LINE_STUCK {
                return LinkEnd::Broken("the line takes nothing any more".to_owned());
            }
            if !wants_line {
                last_progress = Instant::now();
            }
            if let Some(input) = input {
                self.session.apply(self.now_ms(), input, &mut effects);
            }
            for effect in effects {
                if let Some(end) = self.carry_out(effect) {
                    return LinkEnd::Session(end);
                }
            }
            self.start_waiting();
        }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn facts(&self) -> HeartbeatFacts {
        HeartbeatFacts {
            now: Micros(self.clock.now_micros()),
            oldest_waiting: self.heads.oldest_waiting,
            consumed_through: self.heads.consumed_through,
            software: software(),
            certificate_expires_at: self.certificate_expires_at,
            minimum_version: self.minimum_version.clone(),
        }
    }

    /// Says once per session that the hub will want newer software.
    fn told_minimum_version(&self, heartbeat: &Heartbeat) {
        let known = self.state.borrow();
        let before = known.heartbeat.as_ref().map(|told| &told.minimum_version);
        let version = &heartbeat.minimum_version;
        if !version.is_empty() && before != Some(version) {
            tracing::warn!(
                event = "minimum_version_announced",
                party = %self.side.party(),
                version,
                from_micros = heartbeat.minimum_version_from.map(|from| from.0),
                "the hub announces the earliest software that it will accept: update before then"
            );
        }
    }

    fn heard(&mut self, message: I) -> Result<Frame, String> {
        let now = Micros(self.clock.now_micros());
        // At most ten times a second: watchers are people and metrics.
        let is_due = self
            .state
            .borrow()
            .last_heard
            .is_none_or(|last| now.0 - last.0 > 100_000);
        if is_due {
            self.state.send_modify(|state| state.last_heard = Some(now));
        }
        let frame = message
            .open()
            .unwrap_or(crate::wire::v1::Frame { kind: None });
        wire::frame_from_proto(frame).map_err(|error| format!("a frame can't be read: {error}"))
    }

    fn finished(&mut self, done: Done) -> Result<Option<Input>, StoreError> {
        Ok(match done {
            Done::Read(entries) => Some(Input::Read(entries)),
            Done::Kept(place) => {
                self.jobs.is_keeping = false;
                Some(Input::Stored(place))
            }
            Done::Compared(same) => Some(Input::Compared(same)),
            Done::CopyRead(first, previous_chain, entries) => Some(Input::CopyRead {
                first,
                previous_chain,
                entries,
            }),
            Done::CopyStored(missing) => Some(Input::CopyStored(missing)),
            Done::Heads(heads) => {
                self.jobs.is_looking = false;
                if has_gone_back(&self.heads, &heads) {
                    return Err(StoreError::Mismatch(GONE_BACK.to_owned()));
                }
                self.heads = *heads;
                if std::mem::take(&mut self.jobs.looks_again) {
                    self.look();
                }
                let head = match self.side.sends() {
                    Direction::Submissions => self.heads.submissions.position,
                    Direction::Deliveries => self.heads.deliveries,
                };
                Some(Input::Available(head))
            }
            Done::Nothing => None,
        })
    }

    fn carry_out(&mut self, effect: Effect) -> Option<End> {
        let side = self.side.clone();
        let sends = side.sends();
        match effect {
            Effect::Read {
                from,
                max_entries,
                max_bytes,
            } => self.run_job(async move {
                let entries = side
                    .store()
                    .read(
                        side.party(),
                        sends,
                        from,
                        max_entries as usize,
                        max_bytes as usize,
                    )
                    .await?;
                let sized = entries.into_iter().map(|found| {
                    let bytes = entry_size(&found.entry) as u64;
                    (found.entry, bytes)
                });
                Ok(Done::Read(sized.collect()))
            }),
            Effect::Store {
                expected,
                entries,
                head,
            } => self.jobs.to_keep.push_back((expected, entries, head)),
            Effect::Compare(place) => self.run_job(async move {
                let receives = match sends {
                    Direction::Submissions => Direction::Deliveries,
                    Direction::Deliveries => Direction::Submissions,
                };
                let own = side
                    .store()
                    .place_at(side.party(), receives, place.position)
                    .await?;
                Ok(Done::Compared(own == Some(place)))
            }),
            Effect::Acknowledged(place) => self.jobs.to_acknowledge = Some(place),
            Effect::Heard(heartbeat) => {
                let now = Micros(self.clock.now_micros());
                let consumed = heartbeat.consumed_through;
                self.told_minimum_version(&heartbeat);
                self.state.send_modify(|state| {
                    state.clock_skew_ms = (heartbeat.sent_at.0 - now.0) / 1_000;
                    state.peer_software.clone_from(&heartbeat.software);
                    if heartbeat.certificate_expires_at.is_some() {
                        state.peer_certificate_expires_at = heartbeat.certificate_expires_at;
                    }
                    state.heartbeat = Some(*heartbeat);
                });
                if consumed > self.heads.consumed_through {
                    self.run_job(consumed_at(side, consumed));
                }
            }
            Effect::ReadCopy { first, last } => self.run_job(async move {
                let store = side.store();
                let party = side.party();
                let before = store
                    .place_at(party, Direction::Submissions, first - 1)
                    .await?;
                let Some(before) = before else {
                    let none = crate::domain::Digest::of(&[]);
                    return Ok(Done::CopyRead(first, none, Vec::new()));
                };
                let most = (last - first + 1) as usize;
                let entries = store
                    .read(party, Direction::Submissions, first, most, 512 * 1024)
                    .await?;
                let entries = entries.into_iter().map(|found| found.entry).collect();
                Ok(Done::CopyRead(first, before.chain, entries))
            }),
            Effect::StoreCopy { first, entries } => self.run_job(async move {
                side.keep_copy(first, entries).await?;
                let heads = side.store().heads(side.party()).await?;
                let missing = heads.copy_wanted.map(|copy| (copy.first, copy.last));
                Ok(Done::CopyStored(missing))
            }),
            Effect::End(end) => return Some(end),
        }
        None
    }

    /// Starts what may run one at a time, with all that waits joined.
    fn start_waiting(&mut self) {
        if !self.jobs.is_keeping && !self.jobs.to_keep.is_empty() {
            let mut batches = std::mem::take(&mut self.jobs.to_keep).into_iter();
            if let Some((expected, mut entries, mut head)) = batches.next() {
                for (_, more, later) in batches {
                    entries.extend(more);
                    head = later;
                }
                self.jobs.is_keeping = true;
                let side = self.side.clone();
                self.run_job(
                    async move { side.keep(expected, entries, head).await.map(Done::Kept) },
                );
            }
        }
        if let Some(place) = self.jobs.to_acknowledge.take() {
            let side = self.side.clone();
            self.run_job(async move {
                side.store()
                    .acknowledge(side.party(), side.sends(), place)
                    .await?;
                Ok(Done::Nothing)
            });
        }
    }

    /// Looks where the journals stand.
    fn look(&mut self) {
        if self.jobs.is_looking {
            self.jobs.looks_again = true;
            return;
        }
        self.jobs.is_looking = true;
        let side = self.side.clone();
        self.run_job(async move {
            let heads = side.store().heads(side.party()).await?;
            Ok(Done::Heads(Box::new(heads)))
        });
    }

    fn run_job(
        &mut self,
        job: impl std::future::Future<Output = Result<Done, StoreError>> + Send + 'static,
    ) {
        self.jobs.running.push(job.boxed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::PartyId, store::Store};

    /// An end whose store does not take how far the peer has come.
    struct Deaf(PartyId, StoreError);

    impl Side for Deaf {
        fn party(&self) -> &PartyId {
            &self.0
        }

        fn sends(&self) -> Direction {
            Direction::Deliveries
        }

        fn store(&self) -> &dyn Store {
            unreachable!("it is not asked")
        }

        fn keep(
            &self,
            _: Place,
            _: Vec<Entry>,
            _: Place,
        ) -> BoxFuture<'_, Result<Place, StoreError>> {
            unreachable!("nothing comes")
        }

        fn keep_copy(&self, _: u64, _: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
            unreachable!("nothing comes")
        }

        fn peer_consumed(&self, _: u64) -> BoxFuture<'_, Result<(), StoreError>> {
            std::future::ready(Err(self.1.clone())).boxed()
        }
    }

    /// Scenario: a heartbeat says how far the peer has come, and the store can't keep
    /// it now; or says that another session took over.
    /// Guarantee: only the second ends the link.
    #[tokio::test]
    async fn what_the_next_heartbeat_says_again_ends_no_link() {
        let party = PartyId::parse("pemda-33").unwrap();
        let after = async |error| consumed_at(Arc::new(Deaf(party.clone(), error)), 7).await;
        let passes = StoreError::Unavailable("busy".to_owned());
        assert!(matches!(after(passes).await, Ok(Done::Nothing)));
        assert!(matches!(
            after(StoreError::Fenced).await,
            Err(StoreError::Fenced)
        ));
    }
}
