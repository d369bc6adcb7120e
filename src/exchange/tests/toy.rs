//! A node and a hub in memory: what is in them is on their disks.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    domain::{Limits, Micros, PartyId},
    exchange::{
        Direction, Entry, Open, Opened, Place, Plan, PreviousEpoch, Verdict, entry_digest, extend,
        judge, needs_chain_at, opening::LocalState,
    },
};

/// The epoch in which both begin.
const EPOCH: u64 = 1;

pub(super) fn party() -> PartyId {
    PartyId::parse("pemda-33").unwrap()
}

pub(super) fn submission(name: u32) -> Entry {
    Entry {
        header: Bytes::new(),
        event: Bytes::from(format!("event {name}")),
        parts: Vec::new(),
        handover_digest: None,
    }
}

fn delivery(of: &Entry) -> Entry {
    Entry {
        header: Bytes::from([b"decision on ".as_slice(), &of.event].concat()),
        event: Bytes::new(),
        parts: Vec::new(),
        handover_digest: None,
    }
}

/// A node: its journal may have a gap that is still to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) epoch: u64,
    pub(super) submissions: Vec<Option<Entry>>,
    /// Chains beside the entries, as a store keeps them.
    pub(super) chains: Vec<Place>,
    pub(super) acknowledged: Option<Place>,
    pub(super) received: Vec<Entry>,
    pub(super) copy: Option<(u64, u64)>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            epoch: EPOCH,
            submissions: Vec::new(),
            chains: Vec::new(),
            acknowledged: None,
            received: Vec::new(),
            copy: None,
        }
    }
}

/// A hub: accepts, remembers for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hub {
    pub(super) epoch: u64,
    /// Where the epochs before ended.
    pub(super) ended: Vec<PreviousEpoch>,
    pub(super) submissions: Vec<Entry>,
    pub(super) deliveries: Vec<Entry>,
    /// How often each event was accepted; must be once.
    pub(super) accepted: BTreeMap<Bytes, u32>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            epoch: EPOCH,
            ended: Vec::new(),
            submissions: Vec::new(),
            deliveries: Vec::new(),
            accepted: BTreeMap::new(),
        }
    }
}

fn root(direction: Direction, epoch: u64) -> Place {
    Place::root(&party(), direction, epoch)
}

pub(super) fn place_in(
    direction: Direction,
    epoch: u64,
    entries: &[Entry],
    position: u64,
) -> Option<Place> {
    let upto = entries.get(..usize::try_from(position).unwrap())?;
    Some(extend(root(direction, epoch), direction, upto))
}

impl Node {
    pub(super) fn head(&self) -> Place {
        self.chains
            .last()
            .copied()
            .unwrap_or(root(Direction::Submissions, self.epoch))
    }

    pub(super) fn acknowledged(&self) -> Place {
        self.acknowledged
            .unwrap_or(root(Direction::Submissions, self.epoch))
    }

    pub(super) fn append(&mut self, entry: Entry) {
        let place = self
            .head()
            .after(&entry_digest(Direction::Submissions, &entry));
        self.submissions.push(Some(entry));
        self.chains.push(place);
    }

    pub(super) fn local(&self) -> LocalState {
        LocalState {
            party: party(),
            epoch: self.epoch,
            acknowledged: self.acknowledged(),
            head: self.head(),
            received: place_in(
                Direction::Deliveries,
                self.epoch,
                &self.received,
                self.received.len() as u64,
            )
            .unwrap(),
        }
    }

    fn chain_at(&self, position: u64) -> Option<Place> {
        match position {
            0 => Some(root(Direction::Submissions, self.epoch)),
            // Chains in a gap are not known.
            n if self
                .copy
                .is_some_and(|(first, last)| (first..last).contains(&n)) =>
            {
                None
            }
            n => self.chains.get(n as usize - 1).copied(),
        }
    }

    /// Begins both journals anew, and appends again what the old one had
    /// after a position.
    fn enter_epoch(&mut self, epoch: u64, resend_after: u64) {
        let again = self.submissions.split_off(resend_after as usize);
        *self = Self {
            epoch,
            ..Self::default()
        };
        again
            .into_iter()
            .flatten()
            .for_each(|entry| self.append(entry));
    }

    /// Opens against a hub, and does what the rules say.
    pub(super) fn open(&mut self, hub: &Hub) -> Result<Plan, Verdict> {
        let local = self.local();
        let opened = hub.answer(&local);
        let own = needs_chain_at(&local, &opened)
            .and_then(|position| self.chain_at(position))
            .map(|place| place.chain);
        let plan = match judge(&local, own, &opened) {
            Verdict::Continue(plan) => plan,
            Verdict::EnterEpoch {
                epoch,
                resend_after,
            } => {
                self.enter_epoch(epoch, resend_after);
                return self.open(hub);
            }
            other => return Err(other),
        };
        match plan.adopt {
            Some(adopt) => self.adopt(adopt.keep_through, plan.hub_head),
            None => self.acknowledged = Some(plan.hub_head),
        }
        Ok(plan)
    }

    /// Sets aside, takes the hub's head, re-appends.
    fn adopt(&mut self, keep: u64, head: Place) {
        let aside: Vec<Entry> = self.submissions.drain(keep as usize..).flatten().collect();
        self.chains.truncate(keep as usize);
        let first = self.copy.map_or(keep + 1, |(first, _)| first.min(keep + 1));
        while (self.submissions.len() as u64) < head.position {
            self.submissions.push(None);
            // Chains in a gap are not known until it is copied.
            self.chains.push(head);
        }
        self.acknowledged = Some(head);
        self.copy = Some((first, head.position));
        for entry in aside {
            self.append(entry);
        }
    }
}

impl Hub {
    /// Accepts entries that continue its journal.
    pub(super) fn accept(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.submissions.push(entry.clone());
            self.deliveries.push(delivery(&entry));
            // Permanent dedup: a repetition changes nothing.
            self.accepted.entry(entry.event).or_insert(0);
        }
        for (event, times) in &mut self.accepted {
            if *times == 0 && self.submissions.iter().any(|entry| entry.event == *event) {
                *times = 1;
            }
        }
    }

    pub(super) fn head(&self) -> Place {
        self.place(self.submissions.len() as u64).unwrap()
    }

    pub(super) fn place(&self, position: u64) -> Option<Place> {
        place_in(
            Direction::Submissions,
            self.epoch,
            &self.submissions,
            position,
        )
    }

    pub(super) fn delivery_place(&self, position: u64) -> Option<Place> {
        place_in(
            Direction::Deliveries,
            self.epoch,
            &self.deliveries,
            position,
        )
    }

    /// What its operator does after a restore. Epochs come from the clock, so
    /// also this one is larger than any before.
    pub(super) fn begin_epoch(&mut self, epoch: u64) {
        assert!(epoch > self.epoch);
        self.ended.push(PreviousEpoch {
            epoch: self.epoch,
            submissions: self.head(),
            deliveries: self.delivery_place(self.deliveries.len() as u64).unwrap(),
        });
        self.epoch = epoch;
        self.submissions.clear();
        self.deliveries.clear();
    }

    fn answer(&self, local: &LocalState) -> Opened {
        let shorter = local.head.position.min(self.submissions.len() as u64);
        Opened {
            version: 1,
            capabilities: Vec::new(),
            instance_id: [0; 16],
            software: String::new(),
            epoch: self.epoch,
            at_acknowledged: self.place(local.acknowledged.position),
            at_shorter_head: self.place(shorter).unwrap(),
            head: self.head(),
            deliveries_head: self.deliveries.len() as u64,
            at_received: self.delivery_place(local.received.position),
            consumed_through: 0,
            limits: Limits::default(),
            sent_at: Micros(0),
            // The one before, as the contract says.
            previous_epoch: self.ended.last().cloned(),
            party: party(),
        }
    }

    /// What the hub itself would say to such a node.
    pub(super) fn alarm(&self, local: &LocalState) -> Option<&'static str> {
        let open = Open {
            versions: vec![1],
            capabilities: Vec::new(),
            instance_id: [0; 16],
            software: String::new(),
            epoch: local.epoch,
            acknowledged: local.acknowledged,
            head: local.head,
            received: local.received,
            consumed_through: 0,
            sent_at: Micros(0),
            incarnation: None,
        };
        crate::exchange::hub_alarm(&open, &self.answer(local)).map(|(reason, _)| reason)
    }
}
