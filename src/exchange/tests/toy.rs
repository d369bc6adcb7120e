//! A node and a hub in memory: what is in them is on their disks.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    domain::{Limits, Micros, PartyId},
    exchange::{
        Direction, Entry, Open, Opened, Place, Plan, Verdict, entry_digest, extend, judge,
        needs_chain_at, opening::LocalState,
    },
};

pub(super) const EPOCH: u64 = 1;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) submissions: Vec<Option<Entry>>,
    /// Chains beside the entries, as a store keeps them.
    pub(super) chains: Vec<Place>,
    pub(super) acknowledged: Option<Place>,
    pub(super) received: Vec<Entry>,
    pub(super) copy: Option<(u64, u64)>,
}

/// A hub: accepts, remembers for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hub {
    pub(super) submissions: Vec<Entry>,
    pub(super) deliveries: Vec<Entry>,
    /// How often each event was accepted; must be once.
    pub(super) accepted: BTreeMap<Bytes, u32>,
}

pub(super) fn root(direction: Direction) -> Place {
    Place::root(&party(), direction, EPOCH)
}

pub(super) fn place_in(direction: Direction, entries: &[Entry], position: u64) -> Option<Place> {
    let upto = entries.get(..usize::try_from(position).unwrap())?;
    Some(extend(root(direction), direction, upto))
}

impl Node {
    pub(super) fn head(&self) -> Place {
        self.chains
            .last()
            .copied()
            .unwrap_or(root(Direction::Submissions))
    }

    pub(super) fn acknowledged(&self) -> Place {
        self.acknowledged.unwrap_or(root(Direction::Submissions))
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
            epoch: EPOCH,
            acknowledged: self.acknowledged(),
            head: self.head(),
            received: place_in(
                Direction::Deliveries,
                &self.received,
                self.received.len() as u64,
            )
            .unwrap(),
        }
    }

    fn chain_at(&self, position: u64) -> Option<Place> {
        match position {
            0 => Some(root(Direction::Submissions)),
            n => self.chains.get(n as usize - 1).copied(),
        }
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
        place_in(Direction::Submissions, &self.submissions, position)
    }

    fn answer(&self, local: &LocalState) -> Opened {
        let shorter = local.head.position.min(self.submissions.len() as u64);
        Opened {
            version: 1,
            capabilities: Vec::new(),
            instance_id: [0; 16],
            software: String::new(),
            epoch: EPOCH,
            at_acknowledged: self.place(local.acknowledged.position),
            at_shorter_head: self.place(shorter).unwrap(),
            head: self.head(),
            deliveries_head: self.deliveries.len() as u64,
            at_received: place_in(
                Direction::Deliveries,
                &self.deliveries,
                local.received.position,
            ),
            consumed_through: 0,
            limits: Limits::default(),
            sent_at: Micros(0),
            previous_epoch: None,
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
        };
        crate::exchange::hub_alarm(&open, &self.answer(local)).map(|(reason, _)| reason)
    }
}
