//! Random schedules: cuts, crashes with work under way, restores of the node
//! to any state that it had, at any point.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::toy::{Hub, Node, place_in, submission};
use crate::{
    domain::Limits,
    exchange::{
        Direction, Effect, End, Entry, Frame, HeartbeatFacts, Input, Receiver, Sender, Session,
        SessionOptions, Verdict,
    },
};

#[derive(Debug, Clone)]
enum Step {
    Submit(u8),
    Connect,
    /// So many moves of frames and disks, spread by the seed.
    Pump(u8, u64),
    Cut,
    CrashNode,
    CrashHub,
    RestoreNode(prop::sample::Index),
    LoseDisk,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Submit),
        3 => Just(Step::Connect),
        6 => (1..60_u8, any::<u64>()).prop_map(|(moves, seed)| Step::Pump(moves, seed)),
        1 => Just(Step::Cut),
        1 => Just(Step::CrashNode),
        1 => Just(Step::CrashHub),
        1 => any::<prop::sample::Index>().prop_map(Step::RestoreNode),
        1 => Just(Step::LoseDisk),
    ]
}

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

struct World {
    node: Node,
    hub: Hub,
    line: Option<Line>,
    /// States that the node's disk had.
    past: Vec<Node>,
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
    fn new() -> Self {
        Self {
            node: Node::default(),
            hub: Hub::default(),
            line: None,
            past: vec![Node::default()],
            next: 0,
            promised: BTreeSet::new(),
            acknowledged: Vec::new(),
            clock: 0,
        }
    }

    fn run(&mut self, step: &Step) {
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
            Step::Connect => self.connect(),
            Step::Pump(moves, seed) => self.pump(*moves, *seed),
            Step::Cut | Step::CrashNode | Step::CrashHub => self.line = None,
            Step::RestoreNode(index) => {
                let old = index.get(&self.past).clone();
                self.restore(old);
            }
            Step::LoseDisk => self.restore(Node::default()),
        }
        self.past.push(self.node.clone());
    }

    /// What stood on the lost disk alone can't be promised any more.
    fn restore(&mut self, old: Node) {
        self.line = None;
        let at_hub = |name: &u32| self.hub.accepted.contains_key(&submission(*name).event);
        let in_old = |name: &u32| old.submissions.contains(&Some(submission(*name)));
        self.promised.retain(|name| at_hub(name) || in_old(name));
        self.node = old;
    }

    fn connect(&mut self) {
        self.line = None;
        let plan = match self.node.open(&self.hub) {
            Ok(plan) => plan,
            Err(verdict) => panic!("an honest hub never makes a node stop: {verdict:?}"),
        };
        let received = self.node.received.len() as u64;
        let at = place_in(Direction::Deliveries, &self.hub.deliveries, received).unwrap();
        let (submissions, deliveries) = (Direction::Submissions, Direction::Deliveries);
        let limits = limits();
        let mut node = end(
            Sender::new(submissions, 1, plan.hub_head, &limits),
            Receiver::new(deliveries, 1, at, &limits),
            self.node.copy,
            self.clock,
        );
        let mut hub = end(
            Sender::new(deliveries, 1, at, &limits),
            Receiver::new(submissions, 1, self.hub.head(), &limits),
            None,
            self.clock,
        );
        node.feed(self.clock, Input::Available(self.node.head().position));
        hub.feed(
            self.clock,
            Input::Available(self.hub.deliveries.len() as u64),
        );
        self.line = Some(Line { node, hub });
    }

    /// Moves one thing at a time: a frame over the line, a frame out of it, or
    /// a piece of work at a disk; which one, the seed says.
    fn pump(&mut self, moves: u8, seed: u64) {
        let mut dice = seed;
        for _ in 0..moves {
            self.clock += 1;
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let Some(mut line) = self.line.take() else {
                return;
            };
            match (dice >> 33) % 6 {
                0 => line.hub.inbox.extend(line.node.frame()),
                1 => line.node.inbox.extend(line.hub.frame()),
                2 => {
                    if let Some(frame) = line.node.inbox.pop_front() {
                        line.node.feed(self.clock, Input::Frame(frame));
                    }
                }
                3 => {
                    if let Some(frame) = line.hub.inbox.pop_front() {
                        line.hub.feed(self.clock, Input::Frame(frame));
                    }
                }
                4 => self.node_disk(&mut line.node),
                _ => self.hub_disk(&mut line.hub),
            }
            if !line.node.is_over && !line.hub.is_over {
                self.line = Some(line);
            }
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
                assert!(
                    !matches!(reason, End::Violation(_) | End::Mismatch(_)),
                    "{reason:?}"
                );
                end.is_over = true;
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
                assert!(
                    !matches!(reason, End::Violation(_) | End::Mismatch(_)),
                    "{reason:?}"
                );
                end.is_over = true;
            }
            Effect::Heard(_) | Effect::Acknowledged(_) => {}
            Effect::StoreCopy { .. } => panic!("a hub is sent no copy"),
        }
    }

    fn settle(&mut self) {
        for round in 0..400 {
            if self.line.is_none() || round % 100 == 0 {
                self.connect();
            }
            self.pump(200, round * 7 + 1);
        }
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
                .map(|n| place_in(Direction::Submissions, &whole, n).unwrap())
                .collect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Scenario: random hand-overs, connections, cuts and crashes with frames
    /// and disk work under way, disks lost, old backups restored.
    /// Guarantee: in the end everything that was promised and not lost with its
    /// only disk is accepted at the hub once, both ends hold the same journals,
    /// and no acknowledged position ever got other content.
    #[test]
    fn nothing_is_lost_or_doubled(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.settle();
        for name in &world.promised {
            let times = world.hub.accepted.get(&submission(*name).event);
            prop_assert_eq!(times, Some(&1), "event {}", name);
        }
        let whole: Vec<Entry> = world.node.submissions.iter().flatten().cloned().collect();
        prop_assert_eq!(&whole, &world.hub.submissions);
        prop_assert_eq!(&world.node.received, &world.hub.deliveries);
        prop_assert_eq!(world.node.acknowledged(), world.hub.head());
    }

    /// Scenario: after a random life the hub is restored to an older state.
    /// Guarantee: if the node holds more than that, the link stops as
    /// HUB_BEHIND and nothing is sent; the node is left as it was.
    #[test]
    fn a_hub_that_went_back_stops_the_link(
        steps in prop::collection::vec(step(), 1..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
        world.settle();
        let count = world.hub.submissions.len();
        prop_assume!(count > 0);
        let kept = cut.index(count);
        let mut old = Hub::default();
        old.accept(world.hub.submissions[..kept].to_vec());
        let before = world.node.clone();
        let verdict = world.node.open(&old).unwrap_err();
        prop_assert!(matches!(verdict, Verdict::HubBehind(_)), "{:?}", verdict);
        prop_assert_eq!(&world.node, &before);
        prop_assert_eq!(old.alarm(&before.local()), Some("HUB_BEHIND"));
    }
}
