//! Random schedules: cuts, crashes of either end with work under way, frames
//! that come twice or in another order, restores of either end to any state
//! that it had, and new epochs, at any point.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{
    steps::{Step, roll, step, step_or_hub_restored},
    toy::{Hub, Node, place_in, submission},
};
use crate::{
    domain::Limits,
    exchange::{
        Direction, Effect, End, Entry, Frame, HeartbeatFacts, Input, Receiver, Sender, Session,
        SessionOptions, Verdict,
    },
};

/// One end of a live session: what is in it is lost with it.
struct End1 {
    session: Session,
    to_do: VecDeque<Effect>,
    inbox: VecDeque<Frame>,
    is_over: bool,
}

struct Line {
    node: End1,
    hub: End1,
}

pub(super) struct World {
    pub(super) node: Node,
    pub(super) hub: Hub,
    line: Option<Line>,
    /// Frames of this session came in another order: it may end for that.
    is_disturbed: bool,
    /// States that the disks had.
    past: Vec<Node>,
    past_hub: Vec<Hub>,
    hub_went_back: bool,
    last_epoch: u64,
    next: u32,
    /// What must be at the hub once, in the end.
    promised: BTreeSet<u32>,
    /// Position and content of what was acknowledged.
    acknowledged: Vec<Entry>,
    clock: u64,
}

fn limits() -> Limits {
    Limits {
        window_entries: 8,
        window_bytes: 400,
        frame_bytes: 64,
        ..Limits::default()
    }
}

fn end(sender: Sender, receiver: Receiver, copy: Option<(u64, u64)>, now_ms: u64) -> End1 {
    End1 {
        session: Session::new(SessionOptions {
            sender,
            receiver,
            limits: limits(),
            copy,
            heartbeat_jitter: 1.0,
            now_ms,
        }),
        to_do: VecDeque::new(),
        inbox: VecDeque::new(),
        is_over: false,
    }
}

impl End1 {
    fn feed(&mut self, now: u64, input: Input) {
        let mut effects = Vec::new();
        self.session.apply(now, input, &mut effects);
        self.to_do.extend(effects);
    }

    fn frame(&mut self) -> Option<Frame> {
        let mut effects = Vec::new();
        let frame = self
            .session
            .next_frame(HeartbeatFacts::default, &mut effects);
        self.to_do.extend(effects);
        frame
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            node: Node::default(),
            hub: Hub::default(),
            line: None,
            is_disturbed: false,
            past: vec![Node::default()],
            past_hub: vec![Hub::default()],
            hub_went_back: false,
            last_epoch: Hub::default().epoch,
            next: 0,
            promised: BTreeSet::new(),
            acknowledged: Vec::new(),
            clock: 0,
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match step {
            Step::Submit(count) => {
                for _ in 0..*count {
                    self.node.append(submission(self.next));
                    self.promised.insert(self.next);
                    self.next += 1;
                }
                let head = self.node.head().position;
                let now = self.clock;
                if let Some(line) = &mut self.line {
                    line.node.feed(now, Input::Available(head));
                }
            }
            Step::Connect => {
                self.connect();
            }
            Step::Pump(moves, seed) => self.pump(*moves, *seed, true),
            Step::Cut(seed) => self.sever(true, true, *seed),
            Step::CrashNode(seed) => self.sever(false, true, *seed),
            Step::CrashHub(seed) => self.sever(true, false, *seed),
            Step::RestoreNode(index) => {
                let old = index.get(&self.past).clone();
                self.restore(old);
            }
            Step::LoseDisk => self.restore(Node::default()),
            Step::NewEpoch => self.new_epoch(),
            Step::RestoreHub(index) => {
                let old = index.get(&self.past_hub).clone();
                self.restore_hub(old);
            }
        }
        self.past.push(self.node.clone());
        self.past_hub.push(self.hub.clone());
    }

    fn new_epoch(&mut self) {
        self.line = None;
        self.last_epoch += 1;
        self.hub.begin_epoch(self.last_epoch);
        self.acknowledged.clear();
    }

    /// What stood at the hub alone, since the node that had sent it lost it,
    /// can't be promised any more.
    fn restore_hub(&mut self, old: Hub) {
        self.line = None;
        self.hub_went_back |= old != self.hub;
        let is_same_epoch = old.epoch == self.hub.epoch;
        self.hub = old;
        let kept = self.acknowledged.iter().zip(&self.hub.submissions);
        let kept = kept.take_while(|(before, now)| before == now).count();
        self.acknowledged
            .truncate(if is_same_epoch { kept } else { 0 });
        let (hub, node) = (&self.hub, &self.node);
        self.promised.retain(|name| {
            let entry = submission(*name);
            hub.accepted.contains_key(&entry.event) || node.submissions.contains(&Some(entry))
        });
    }

    /// The session is over; whoever lives goes on with what it has, as a task
    /// would that has not noticed yet.
    fn sever(&mut self, node_lives: bool, hub_lives: bool, seed: u64) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let mut dice = seed;
        for _ in 0..roll(&mut dice, 40) {
            match roll(&mut dice, 4) {
                0 if node_lives && !line.node.is_over => self.node_hears(&mut line.node),
                1 if node_lives && !line.node.is_over => self.node_disk(&mut line.node),
                2 if hub_lives && !line.hub.is_over => self.hub_hears(&mut line.hub),
                3 if hub_lives && !line.hub.is_over => self.hub_disk(&mut line.hub),
                _ => {}
            }
        }
    }

    fn node_hears(&self, end: &mut End1) {
        if let Some(frame) = end.inbox.pop_front() {
            end.feed(self.clock, Input::Frame(frame));
        }
    }

    fn hub_hears(&self, end: &mut End1) {
        self.node_hears(end);
    }

    /// What stood on the lost disk alone can't be promised any more.
    fn restore(&mut self, old: Node) {
        self.line = None;
        let at_hub = |name: &u32| self.hub.accepted.contains_key(&submission(*name).event);
        let in_old = |name: &u32| old.submissions.contains(&Some(submission(*name)));
        self.promised.retain(|name| at_hub(name) || in_old(name));
        // What stands on the disk that is in use now counts again.
        let counts_again = (0..self.next).filter(in_old);
        self.promised.extend(counts_again);
        self.node = old;
    }

    /// Whether there is a session now.
    fn connect(&mut self) -> bool {
        self.line = None;
        self.is_disturbed = false;
        let before = self.node.clone();
        let plan = match self.node.open(&self.hub) {
            Ok(plan) => plan,
            Err(verdict) => {
                assert!(
                    self.hub_went_back,
                    "an honest hub never makes a node stop: {verdict:?}"
                );
                assert_eq!(self.node, before, "a node that stops changes nothing");
                // A hub can't see that an epoch which it ended ended otherwise.
                let hub_can_tell = before.epoch >= self.hub.epoch;
                let alarm = self.hub.alarm(&before.local());
                assert_eq!(alarm.is_some(), hub_can_tell, "both sides turn red");
                return false;
            }
        };
        let received = self.node.received.len() as u64;
        let epoch = self.hub.epoch;
        let at = self.hub.delivery_place(received).unwrap();
        let (submissions, deliveries) = (Direction::Submissions, Direction::Deliveries);
        let limits = limits();
        let mut node = end(
            Sender::new(submissions, epoch, plan.hub_head, &limits),
            Receiver::new(deliveries, epoch, at, &limits),
            self.node.copy,
            self.clock,
        );
        let mut hub = end(
            Sender::new(deliveries, epoch, at, &limits),
            Receiver::new(submissions, epoch, self.hub.head(), &limits),
            None,
            self.clock,
        );
        node.feed(self.clock, Input::Available(self.node.head().position));
        hub.feed(
            self.clock,
            Input::Available(self.hub.deliveries.len() as u64),
        );
        self.line = Some(Line { node, hub });
        true
    }

    /// Moves one thing at a time: a frame over the line, a frame out of it, or
    /// a piece of work at a disk; which one, the seed says. A rough line brings
    /// frames twice, and now and then in another order.
    fn pump(&mut self, moves: u8, seed: u64, is_rough: bool) {
        let mut dice = seed;
        for _ in 0..moves {
            self.clock += 1;
            let Some(mut line) = self.line.take() else {
                return;
            };
            match roll(&mut dice, if is_rough { 26 } else { 24 }) {
                24 => {
                    let end = pick(&mut line, &mut dice);
                    end.inbox.extend(end.inbox.front().cloned());
                }
                25 => {
                    let end = pick(&mut line, &mut dice);
                    if end.inbox.len() > 1 {
                        end.inbox.swap(0, 1);
                        self.is_disturbed = true;
                    }
                }
                other => match other % 6 {
                    0 => line.hub.inbox.extend(line.node.frame()),
                    1 => line.node.inbox.extend(line.hub.frame()),
                    2 => self.node_hears(&mut line.node),
                    3 => self.hub_hears(&mut line.hub),
                    4 => self.node_disk(&mut line.node),
                    _ => self.hub_disk(&mut line.hub),
                },
            }
            if !line.node.is_over && !line.hub.is_over {
                self.line = Some(line);
            }
        }
    }

    /// A session ends by itself only if the line has mixed its frames up.
    fn check_end(&self, reason: &End) {
        match reason {
            End::Violation(_) => panic!("{reason:?}"),
            End::Mismatch(_) => assert!(self.is_disturbed, "{reason:?}"),
            _ => {}
        }
    }

    fn node_disk(&mut self, end: &mut End1) {
        let Some(effect) = end.to_do.pop_front() else {
            return;
        };
        match effect {
            Effect::Read {
                from, max_entries, ..
            } => {
                let from = from as usize - 1;
                let page = self
                    .node
                    .submissions
                    .iter()
                    .skip(from)
                    .take(max_entries as usize);
                let page = page
                    .map_while(Clone::clone)
                    .map(|entry| (entry, 40))
                    .collect();
                end.feed(self.clock, Input::Read(page));
            }
            Effect::Store { entries, head, .. } => {
                self.node.received.extend(entries);
                assert_eq!(head.position, self.node.received.len() as u64);
                end.feed(self.clock, Input::Stored(head));
            }
            Effect::Acknowledged(place) => {
                self.node.acknowledged = Some(place);
                self.remember(place.position);
            }
            Effect::StoreCopy { first, entries } => {
                for (place, entry) in entries.into_iter().enumerate() {
                    self.node.submissions[first as usize - 1 + place] = Some(entry);
                }
                self.node.refresh_copy();
                end.feed(self.clock, Input::CopyStored(self.node.copy));
            }
            Effect::End(reason) => {
                self.check_end(&reason);
                end.is_over = true;
            }
            Effect::Compare(place) => {
                let own = place_in(
                    Direction::Deliveries,
                    self.node.epoch,
                    &self.node.received,
                    place.position,
                );
                end.feed(self.clock, Input::Compared(own == Some(place)));
            }
            Effect::Heard(_) => {}
            other => panic!("a node is not asked for {other:?}"),
        }
    }

    /// No acknowledged position ever gets other content.
    fn remember(&mut self, through: u64) {
        for position in 0..through as usize {
            let now = &self.hub.submissions[position];
            match self.acknowledged.get(position) {
                Some(before) => assert_eq!(before, now, "position {}", position + 1),
                None => self.acknowledged.push(now.clone()),
            }
        }
    }

    fn hub_disk(&mut self, end: &mut End1) {
        let Some(effect) = end.to_do.pop_front() else {
            return;
        };
        match effect {
            Effect::Read {
                from, max_entries, ..
            } => {
                let page = self.hub.deliveries.iter().skip(from as usize - 1);
                let page = page
                    .take(max_entries as usize)
                    .map(|entry| (entry.clone(), 40));
                end.feed(self.clock, Input::Read(page.collect()));
            }
            Effect::Store {
                expected,
                entries,
                head,
            } => {
                assert_eq!(expected, self.hub.head());
                self.hub.accept(entries);
                assert_eq!(head, self.hub.head());
                end.feed(self.clock, Input::Stored(head));
                let deliveries = self.hub.deliveries.len() as u64;
                end.feed(self.clock, Input::Available(deliveries));
            }
            Effect::Compare(place) => {
                let same = self.hub.place(place.position) == Some(place);
                end.feed(self.clock, Input::Compared(same));
            }
            Effect::ReadCopy { first, last } => {
                let entries = self.hub.submissions[first as usize - 1..last as usize].to_vec();
                let previous_chain = self.hub.place(first - 1).unwrap().chain;
                end.feed(
                    self.clock,
                    Input::CopyRead {
                        first,
                        previous_chain,
                        entries,
                    },
                );
            }
            Effect::End(reason) => {
                self.check_end(&reason);
                end.is_over = true;
            }
            Effect::Heard(_) | Effect::Acknowledged(_) => {}
            Effect::StoreCopy { .. } => panic!("a hub is sent no copy"),
        }
    }

    /// Until both are in line; `false` if the link is stopped for good, which
    /// both ends say.
    pub(super) fn settle(&mut self) -> bool {
        for round in 0..200 {
            let is_in_session = self.line.is_some() && round % 50 > 0;
            if !is_in_session && !self.connect() {
                // HUB_BEHIND, or forked: the operator begins a new epoch.
                self.new_epoch();
                if !self.connect() {
                    return false;
                }
            }
            self.pump(200, round * 7 + 1, false);
        }
        true
    }

    pub(super) fn check_settled(&self) {
        for name in &self.promised {
            let times = self.hub.accepted.get(&submission(*name).event);
            assert_eq!(times, Some(&1), "event {name}");
        }
        let whole: Vec<Entry> = self.node.submissions.iter().flatten().cloned().collect();
        assert_eq!(whole, self.hub.submissions);
        assert_eq!(self.node.received, self.hub.deliveries);
        assert_eq!(self.node.acknowledged(), self.hub.head());
    }
}

fn pick<'a>(line: &'a mut Line, dice: &mut u64) -> &'a mut End1 {
    match roll(dice, 2) {
        0 => &mut line.node,
        _ => &mut line.hub,
    }
}

impl Node {
    fn refresh_copy(&mut self) {
        let Some((_, last)) = self.copy else { return };
        let gap = self
            .submissions
            .iter()
            .take(last as usize)
            .position(Option::is_none);
        self.copy = gap.map(|place| (place as u64 + 1, last));
        if self.copy.is_none() {
            let whole: Vec<Entry> = self.submissions.iter().flatten().cloned().collect();
            self.chains = (1..=whole.len() as u64)
                .map(|n| place_in(Direction::Submissions, self.epoch, &whole, n).unwrap())
                .collect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Scenario: random hand-overs, connections, cuts and crashes of either end
    /// with frames and disk work under way, frames that come twice or in another
    /// order, disks lost, old backups restored, new epochs.
    /// Guarantee: an honest hub never makes a node stop; a repeated frame is never
    /// an error; in the end everything that was promised and not lost with its
    /// only disk is accepted at the hub once, both ends hold the same journals,
    /// and no acknowledged position ever got other content.
    #[test]
    fn nothing_is_lost_or_doubled(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        prop_assert!(world.settle());
        world.check_settled();
    }

    /// Scenario: the same, and the hub is restored to states that it had.
    /// Guarantee: whatever the hub had acknowledged and lost is never lost in
    /// silence: either the link stops at both ends, or the hub still has all
    /// that is promised. After a new epoch everything that any disk in use
    /// holds is there, once; or the link says for good that the ends differ.
    #[test]
    fn a_restored_hub_loses_nothing_in_silence(
        steps in prop::collection::vec(step_or_hub_restored(), 1..60)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        if world.settle() {
            world.check_settled();
        }
    }

    /// Scenario: after a random life the hub is restored to an older state.
    /// Guarantee: if the node holds more than that, the link stops as
    /// HUB_BEHIND and nothing is sent; the node is left as it was. A new epoch
    /// brings all of it back.
    #[test]
    fn a_hub_that_went_back_stops_the_link(
        steps in prop::collection::vec(step(), 1..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
        prop_assert!(world.settle());
        let count = world.hub.submissions.len();
        prop_assume!(count > 0);
        let kept = cut.index(count);
        let mut old = Hub { epoch: world.hub.epoch, ..Hub::default() };
        old.accept(world.hub.submissions[..kept].to_vec());
        let before = world.node.clone();
        let verdict = world.node.open(&old).unwrap_err();
        prop_assert!(matches!(verdict, Verdict::HubBehind(_)), "{:?}", verdict);
        prop_assert_eq!(&world.node, &before);
        prop_assert_eq!(old.alarm(&before.local()), Some("HUB_BEHIND"));
        world.restore_hub(old);
        world.new_epoch();
        prop_assert!(world.settle());
        world.check_settled();
        prop_assert_eq!(world.hub.submissions.len(), count - kept);
    }
}
