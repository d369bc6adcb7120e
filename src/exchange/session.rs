//! The state machine of an open session, the same at both ends.
//!
//! The driver feeds [`Input`]s, carries out the [`Effect`]s, and asks for
//! [`Session::next_frame`] whenever its line can take one more. Nothing here
//! waits. Acknowledgement, heartbeat and drain are latest-value slots that go
//! before entries; entries are read only when the window has room, and the
//! reader of the line never waits for the writer.

use std::collections::VecDeque;

use crate::domain::{Digest, Limits, Micros, MinimumVersion};

use super::{
    Acknowledgement, Check, CopyRequest, Direction, Drain, Entries, Entry, Frame, Heartbeat, Place,
    Receiver, Sender, Violation,
};

/// Entries of one page of a background copy.
const COPY_PAGE: u64 = 1_000;
/// Requests for a copy while one is under way, at most.
const COPIES_IGNORED: u32 = 32;
/// Frames of entries that are here already and wait to be compared, at most.
const MAX_COMPARING: usize = 64;
/// Heartbeats of one second, at most: each costs a look at the store.
const HEARTBEATS_A_SECOND: u32 = 100;

/// What a session begins with, after opening.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The sending half.
    pub sender: Sender,
    /// The receiving half.
    pub receiver: Receiver,
    /// Limits announced in `Opened`.
    pub limits: Limits,
    /// Node: the stretch of own submissions to be copied, if any.
    pub copy: Option<(u64, u64)>,
    /// Heartbeats are spread by this factor, 0.8 to 1.2.
    pub heartbeat_jitter: f64,
    /// Monotonic now.
    pub now_ms: u64,
}

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A frame arrived.
    Frame(Frame),
    /// The journal that this end sends has entries through here.
    Available(u64),
    /// The answer to [`Effect::Read`]: entries that follow what was sent,
    /// each with what it counts against the window. Empty: nothing there.
    Read(Vec<(Entry, u64)>),
    /// The answer to [`Effect::Store`].
    Stored(Place),
    /// The answer to [`Effect::Compare`].
    Compared(bool),
    /// The answer to [`Effect::ReadCopy`].
    CopyRead {
        /// First position.
        first: u64,
        /// The chain before it.
        previous_chain: Digest,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The answer to [`Effect::StoreCopy`]: what is still missing.
    CopyStored(Option<(u64, u64)>),
    /// Time passes.
    Tick,
    /// This end will end the session.
    Drain(Drain),
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Read entries of the journal that this end sends; answer [`Input::Read`].
    Read {
        /// First position.
        from: u64,
        /// At most so many.
        max_entries: u64,
        /// At most so many bytes, but one entry if there is one.
        max_bytes: u64,
    },
    /// Put these entries on disk, in one piece with what waits; answer
    /// [`Input::Stored`]. Batches come in order and must be kept in order.
    Store {
        /// Where the journal stands before.
        expected: Place,
        /// What comes.
        entries: Vec<Entry>,
        /// Where it stands after.
        head: Place,
    },
    /// Compare our chain at this place; answer [`Input::Compared`].
    Compare(Place),
    /// The peer holds everything through here: remember it.
    Acknowledged(Place),
    /// The peer's heartbeat.
    Heard(Box<Heartbeat>),
    /// Read own submissions of the peer for a copy; answer [`Input::CopyRead`].
    ReadCopy {
        /// First position.
        first: u64,
        /// Last position.
        last: u64,
    },
    /// Put this stretch of the copy on disk; answer [`Input::CopyStored`].
    StoreCopy {
        /// First position.
        first: u64,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The session is over.
    End(End),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The peer drains: come back as it says.
    Drained(Drain),
    /// This end has drained: everything is told.
    DrainSent(Drain),
    /// Nothing was heard for too long.
    Silent,
    /// The journals do not continue each other: open again.
    Mismatch(String),
    /// The peer breaks the protocol.
    Violation(Violation),
}

/// What a heartbeat says beside the heads that the session knows.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatFacts {
    /// This end's clock.
    pub now: Micros,
    /// When the oldest entry that waits was stored.
    pub oldest_waiting: Option<Micros>,
    /// Consumed by the local system.
    pub consumed_through: u64,
    /// For people.
    pub software: String,
    /// When this end's certificate ends.
    pub certificate_expires_at: Option<Micros>,
    /// Hub: announced ahead.
    pub minimum_version: Option<MinimumVersion>,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    sender: Sender,
    receiver: Receiver,
    limits: Limits,
    heartbeat_every_ms: u64,
    now_ms: u64,
    last_heard_ms: u64,
    heartbeat_at_ms: u64,
    available: u64,
    is_reading: bool,
    acknowledged_to_peer: Place,
    entries: VecDeque<Frame>,
    copy_request: Option<(u64, u64)>,
    // A page for the peer is being read, or waits for the line.
    is_copying: bool,
    copies_ignored: u32,
    copies: VecDeque<Frame>,
    // The second that it is, and how many heartbeats it brought.
    heartbeats: (u64, u32),
    /// First positions of frames whose comparison is under way.
    comparing: VecDeque<u64>,
    peer_sent_at: Option<Micros>,
    drain: Option<Drain>,
    is_over: bool,
}

impl Session {
    /// Begins.
    pub fn new(options: SessionOptions) -> Self {
        let SessionOptions {
            sender,
            receiver,
            limits,
            copy,
            heartbeat_jitter,
            now_ms,
        } = options;
        let heartbeat_every_ms =
            (f64::from(limits.heartbeat_interval_ms) * heartbeat_jitter.clamp(0.5, 1.5)) as u64;
        Self {
            acknowledged_to_peer: receiver.durable(),
            available: sender.sent().position,
            sender,
            receiver,
            limits,
            heartbeat_every_ms,
            now_ms,
            last_heard_ms: now_ms,
            // The first one goes at once: each side learns the other's clock
            // and heads when the session begins.
            heartbeat_at_ms: now_ms,
            is_reading: false,
            entries: VecDeque::new(),
            copy_request: copy,
            is_copying: false,
            copies_ignored: 0,
            copies: VecDeque::new(),
            heartbeats: (0, 0),
            comparing: VecDeque::new(),
            peer_sent_at: None,
            drain: None,
            is_over: false,
        }
    }

    /// Takes what happened and says what to do.
    pub fn apply(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        if self.is_over {
            return;
        }
        self.now_ms = self.now_ms.max(now_ms);
        let outcome = match input {
            Input::Frame(frame) => {
                self.last_heard_ms = self.now_ms;
                self.on_frame(frame, effects)
            }
            Input::Available(head) => {
                self.available = self.available.max(head);
                Ok(())
            }
            Input::Read(entries) => {
                self.on_read(entries);
                Ok(())
            }
            Input::Stored(place) => {
                self.receiver.stored(place);
                Ok(())
            }
            Input::Compared(same) => self.on_compared(same),
            Input::CopyRead {
                first,
                previous_chain,
                entries,
            } => {
                self.on_copy_read(first, previous_chain, entries);
                Ok(())
            }
            Input::CopyStored(missing) => {
                self.copy_request = missing;
                Ok(())
            }
            Input::Tick => self.on_tick(),
            Input::Drain(drain) => {
                self.drain.get_or_insert(drain);
                Ok(())
            }
        };
        if let Err(end) = outcome {
            self.end(end, effects);
            return;
        }
        self.read_more(effects);
    }

    /// The frame that goes next, if any: drain, acknowledgement, heartbeat,
    /// then copies and entries.
    pub fn next_frame(
        &mut self,
        facts: impl FnOnce() -> HeartbeatFacts,
        effects: &mut Vec<Effect>,
    ) -> Option<Frame> {
        if self.is_over {
            return None;
        }
        if self.owes_acknowledgement() {
            let acknowledgement = self.receiver.acknowledgement();
            self.acknowledged_to_peer = acknowledgement.place;
            return Some(Frame::Acknowledgement(acknowledgement));
        }
        if let Some(drain) = self.drain {
            self.end(End::DrainSent(drain), effects);
            return Some(Frame::Drain(drain));
        }
        if self.now_ms >= self.heartbeat_at_ms {
            self.heartbeat_at_ms = self.now_ms + self.heartbeat_every_ms;
            return Some(Frame::Heartbeat(Box::new(self.heartbeat(facts()))));
        }
        if let Some((first, last)) = self.copy_request.take() {
            return Some(Frame::CopyRequest(CopyRequest {
                epoch: self.sender.epoch(),
                first_position: first,
                last_position: last,
            }));
        }
        let frame = self.entries.pop_front().or_else(|| {
            let page = self.copies.pop_front()?;
            self.is_copying = false;
            Some(page)
        });
        self.read_more(effects);
        frame
    }

    /// Whether [`Session::next_frame`] has one.
    pub fn has_frame(&self) -> bool {
        !self.is_over
            && (self.owes_acknowledgement()
                || self.drain.is_some()
                || self.now_ms >= self.heartbeat_at_ms
                || self.copy_request.is_some()
                || !self.entries.is_empty()
                || !self.copies.is_empty())
    }

    /// Entries that this end holds and the peer has not acknowledged.
    pub fn backlog(&self) -> u64 {
        self.available
            .saturating_sub(self.sender.acknowledged().position)
    }

    /// When [`Input::Tick`] is due next, monotonic milliseconds.
    pub fn next_tick_ms(&self) -> u64 {
        let dead_at = self.last_heard_ms + u64::from(self.limits.dead_after_ms);
        self.heartbeat_at_ms.min(dead_at)
    }

    fn on_frame(&mut self, frame: Frame, effects: &mut Vec<Effect>) -> Result<(), End> {
        match frame {
            Frame::Entries(entries) if entries.copy => {
                if self.receiver.direction() == Direction::Submissions {
                    // Copies go down only.
                    return Err(End::Violation(Violation::Unexpected("copy")));
                }
                effects.push(Effect::StoreCopy {
                    first: entries.first_position,
                    entries: entries.entries,
                });
                Ok(())
            }
            Frame::Entries(entries) => self.on_entries(entries, effects),
            Frame::Acknowledgement(acknowledgement) => {
                self.on_acknowledgement(acknowledgement, effects)
            }
            Frame::Heartbeat(heartbeat) => {
                self.count_heartbeat()?;
                self.peer_sent_at = Some(heartbeat.sent_at);
                effects.push(Effect::Heard(heartbeat));
                Ok(())
            }
            Frame::Drain(drain) => Err(End::Drained(drain)),
            Frame::CopyRequest(request) => {
                if request.first_position == 0 || request.last_position < request.first_position {
                    return Err(End::Violation(Violation::Unexpected("copy request")));
                }
                // A node asks for the next page when it has stored this one, so
                // one is under way at most; others are not answered.
                if std::mem::replace(&mut self.is_copying, true) {
                    self.copies_ignored += 1;
                    return if self.copies_ignored > COPIES_IGNORED {
                        Err(End::Violation(Violation::TooMany("copy request")))
                    } else {
                        Ok(())
                    };
                }
                self.copies_ignored = 0;
                let last = request
                    .last_position
                    .min(request.first_position.saturating_add(COPY_PAGE - 1));
                effects.push(Effect::ReadCopy {
                    first: request.first_position,
                    last,
                });
                Ok(())
            }
            Frame::Open(_) => Err(End::Violation(Violation::Unexpected("open"))),
            Frame::Opened(_) => Err(End::Violation(Violation::Unexpected("opened"))),
            Frame::Unknown => Ok(()),
        }
    }

    fn count_heartbeat(&mut self) -> Result<(), End> {
        let second = self.now_ms / 1_000;
        let (of, count) = self.heartbeats;
        let count = if of == second { count + 1 } else { 1 };
        self.heartbeats = (second, count);
        let most = HEARTBEATS_A_SECOND.max(4_000 / self.limits.heartbeat_interval_ms.max(1));
        if count > most {
            return Err(End::Violation(Violation::TooMany("heartbeat")));
        }
        Ok(())
    }

    fn on_entries(&mut self, frame: Entries, effects: &mut Vec<Effect>) -> Result<(), End> {
        if frame.direction != self.receiver.direction() {
            return Err(End::Violation(Violation::Unexpected(
                "entries of the journal that this end sends",
            )));
        }
        match self.receiver.check(&frame) {
            Ok(Check::Store {
                skip,
                expected,
                head,
            }) => {
                let mut entries = frame.entries;
                entries.drain(..skip);
                self.receiver.take(head, &entries).map_err(End::Violation)?;
                if !entries.is_empty() {
                    effects.push(Effect::Store {
                        expected,
                        entries,
                        head,
                    });
                }
                Ok(())
            }
            Ok(Check::Compare(place)) => {
                if self.comparing.len() >= MAX_COMPARING {
                    return Err(End::Violation(Violation::TooMany(
                        "entries that are known here",
                    )));
                }
                self.comparing.push_back(frame.first_position);
                effects.push(Effect::Compare(place));
                Ok(())
            }
            Err(mismatch) => Err(End::Mismatch(mismatch.to_string())),
        }
    }

    fn on_compared(&mut self, same: bool) -> Result<(), End> {
        let position = self.comparing.pop_front().unwrap_or_default();
        if same {
            return Ok(());
        }
        Err(End::Mismatch(format!(
            "entries from {position} on are known here with other content"
        )))
    }

    fn on_acknowledgement(
        &mut self,
        acknowledgement: Acknowledgement,
        effects: &mut Vec<Effect>,
    ) -> Result<(), End> {
        if acknowledgement.direction == self.receiver.direction() {
            return Err(End::Violation(Violation::Unexpected(
                "acknowledgement of a journal that this end receives",
            )));
        }
        match self.sender.acknowledge(&acknowledgement) {
            Ok(Some(place)) => effects.push(Effect::Acknowledged(place)),
            Ok(None) => {}
            Err(violation) => return Err(End::Violation(violation)),
        }
        Ok(())
    }

    fn on_read(&mut self, entries: Vec<(Entry, u64)>) {
        self.is_reading = false;
        if entries.is_empty() {
            // The journal has less than was said (an entry is being copied, or
            // the head was a guess): wait for the next word about it.
            self.available = self.sender.sent().position;
            return;
        }
        let mut frame = Vec::new();
        let mut frame_bytes = 0;
        for (entry, bytes) in entries {
            let is_full = frame_bytes + bytes > u64::from(self.limits.frame_bytes);
            if is_full && !frame.is_empty() {
                let full = std::mem::take(&mut frame);
                self.queue(full, frame_bytes);
                frame_bytes = 0;
            }
            frame_bytes += bytes;
            frame.push(entry);
        }
        self.queue(frame, frame_bytes);
    }

    fn queue(&mut self, entries: Vec<Entry>, bytes: u64) {
        let frame = self.sender.frame(entries, bytes);
        self.entries.push_back(Frame::Entries(frame));
    }

    fn on_copy_read(&mut self, first: u64, previous_chain: Digest, entries: Vec<Entry>) {
        if entries.is_empty() {
            self.is_copying = false;
            return;
        }
        let direction = match self.receiver.direction() {
            Direction::Submissions => Direction::Submissions,
            Direction::Deliveries => return,
        };
        self.copies.push_back(Frame::Entries(Entries {
            direction,
            epoch: self.sender.epoch(),
            first_position: first,
            previous_chain,
            entries,
            copy: true,
        }));
    }

    fn on_tick(&mut self) -> Result<(), End> {
        let silent_ms = self.now_ms - self.last_heard_ms;
        if silent_ms >= u64::from(self.limits.dead_after_ms) {
            return Err(End::Silent);
        }
        Ok(())
    }

    fn read_more(&mut self, effects: &mut Vec<Effect>) {
        let sent = self.sender.sent().position;
        // A few frames ahead of the line are enough to keep it busy.
        let is_ahead = self.entries.len() >= 4;
        if self.is_reading || is_ahead || self.drain.is_some() || self.available <= sent {
            return;
        }
        let Some((max_entries, max_bytes)) = self.sender.room() else {
            return;
        };
        self.is_reading = true;
        effects.push(Effect::Read {
            from: sent + 1,
            max_entries: max_entries.min(1_000),
            max_bytes: max_bytes.min(4 * u64::from(self.limits.frame_bytes)),
        });
    }

    fn heartbeat(&self, facts: HeartbeatFacts) -> Heartbeat {
        let sent_head = self.available.max(self.sender.sent().position);
        let held = self.receiver.durable().position;
        let (submissions_head, deliveries_head) = match self.receiver.direction() {
            Direction::Deliveries => (sent_head, held),
            Direction::Submissions => (held, sent_head),
        };
        let (minimum_version, minimum_version_from) = match facts.minimum_version {
            Some(minimum) => (minimum.version, Some(minimum.from)),
            None => (String::new(), None),
        };
        Heartbeat {
            sent_at: facts.now,
            echo: self.peer_sent_at,
            submissions_head,
            deliveries_head,
            backlog_entries: self.backlog(),
            oldest_waiting: facts.oldest_waiting.filter(|_| self.backlog() > 0),
            consumed_through: facts.consumed_through,
            software: facts.software,
            certificate_expires_at: facts.certificate_expires_at,
            minimum_version,
            minimum_version_from,
        }
    }

    fn owes_acknowledgement(&self) -> bool {
        self.receiver.durable().position > self.acknowledged_to_peer.position
    }

    fn end(&mut self, end: End, effects: &mut Vec<Effect>) {
        self.is_over = true;
        effects.push(Effect::End(end));
    }
}
