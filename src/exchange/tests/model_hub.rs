//! A hub that is restored, model-checked: every interleaving of hand-overs,
//! sending, acknowledging, opening, restores of hub and node to any state that
//! their disks had, and a new epoch, within small bounds.

use stateright::{Checker as _, Model, Property};

use super::toy::{Hub, Node, submission};

const EVENTS: u32 = 2;

/// A node's disk, by names; `None` is a gap that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct NodeDisk {
    epoch: u64,
    journal: Vec<Option<u32>>,
    acknowledged: usize,
}

/// A hub's disk: the epochs' journals, the last one in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HubDisk {
    epochs: Vec<(u64, Vec<u32>)>,
}

impl HubDisk {
    fn journal(&self) -> &Vec<u32> {
        self.epochs.last().map(|(_, journal)| journal).unwrap()
    }

    /// The permanent dedup: accepted once, in whatever epoch.
    fn has(&self, name: u32) -> bool {
        self.epochs
            .iter()
            .any(|(_, journal)| journal.contains(&name))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    node: NodeDisk,
    hub: HubDisk,
    past_nodes: Vec<NodeDisk>,
    past_hubs: Vec<HubDisk>,
    next: u32,
    hub_restores: u8,
    node_restores: u8,
    new_epochs: u8,
    is_open: bool,
    is_stopped: bool,
    /// Handed over, and still on a disk that is in use.
    promised: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Submit,
    Open,
    Send,
    Acknowledge,
    RestoreNode(usize),
    RestoreHub(usize),
    NewEpoch,
}

struct Restored;

/// The real ones of a state: the model keeps names only.
fn real(state: &State) -> (Node, Hub) {
    let mut hub = Hub::default();
    for (place, (epoch, journal)) in state.hub.epochs.iter().enumerate() {
        if place > 0 {
            hub.begin_epoch(*epoch);
        }
        hub.accept(journal.iter().map(|name| submission(*name)).collect());
    }
    let mut node = Node {
        epoch: state.node.epoch,
        ..Node::default()
    };
    for (place, name) in state.node.journal.iter().enumerate() {
        // What a gap holds is not known at the node; any chain does there but
        // the last one, which is the hub's.
        let stands_in = || state.hub.journal().get(place).copied().unwrap_or(u32::MAX);
        node.append(submission(name.unwrap_or_else(stands_in)));
    }
    if state.node.acknowledged > 0 {
        node.acknowledged = Some(node.chains[state.node.acknowledged - 1]);
    }
    (node, hub)
}

fn name_of(entry: &crate::exchange::Entry) -> u32 {
    let text = std::str::from_utf8(&entry.event).unwrap();
    text.trim_start_matches("event ").parse().unwrap()
}

impl State {
    fn knows_more_than_the_hub(&self) -> bool {
        let is_same_epoch = self.node.epoch == self.hub.epochs.last().unwrap().0;
        is_same_epoch && self.node.acknowledged > self.hub.journal().len()
    }

    fn keep_promises_of_disks_in_use(&mut self) {
        let (hub, node) = (&self.hub, &self.node);
        self.promised
            .retain(|name| hub.has(*name) || node.journal.contains(&Some(*name)));
    }

    fn remember(&mut self) {
        if !self.past_nodes.contains(&self.node) {
            self.past_nodes.push(self.node.clone());
        }
        if !self.past_hubs.contains(&self.hub) {
            self.past_hubs.push(self.hub.clone());
        }
    }
}

impl Model for Restored {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = NodeDisk {
            epoch: Node::default().epoch,
            journal: Vec::new(),
            acknowledged: 0,
        };
        let hub = HubDisk {
            epochs: vec![(Hub::default().epoch, Vec::new())],
        };
        vec![State {
            past_nodes: vec![node.clone()],
            past_hubs: vec![hub.clone()],
            node,
            hub,
            next: 0,
            hub_restores: 0,
            node_restores: 0,
            new_epochs: 0,
            is_open: false,
            is_stopped: false,
            promised: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.next < EVENTS {
            actions.push(Action::Submit);
        }
        if state.is_open {
            if state.hub.journal().len() < state.node.journal.len() {
                actions.push(Action::Send);
            }
            if state.node.acknowledged < state.hub.journal().len() {
                actions.push(Action::Acknowledge);
            }
        } else {
            actions.push(Action::Open);
        }
        if state.hub_restores < 1 {
            actions.extend((0..state.past_hubs.len()).map(Action::RestoreHub));
        }
        if state.node_restores < 2 {
            actions.extend((0..state.past_nodes.len()).map(Action::RestoreNode));
        }
        if state.hub_restores > 0 && state.new_epochs < 1 {
            actions.push(Action::NewEpoch);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Submit => {
                state.node.journal.push(Some(state.next));
                state.promised.push(state.next);
                state.next += 1;
            }
            Action::Open => {
                let (mut node, hub) = real(last);
                match node.open(&hub) {
                    Ok(plan) => {
                        let names = node.submissions.iter();
                        state.node = NodeDisk {
                            epoch: node.epoch,
                            journal: names.map(|entry| entry.as_ref().map(name_of)).collect(),
                            acknowledged: plan.hub_head.position as usize,
                        };
                        // The copy comes at once: gaps have their own model.
                        let copied = hub.submissions.iter().map(name_of).map(Some);
                        let copied: Vec<_> = copied.collect();
                        let gap = copied.len().min(state.node.journal.len());
                        state.node.journal[..gap].clone_from_slice(&copied[..gap]);
                        state.is_open = true;
                        state.is_stopped = false;
                    }
                    Err(_) => state.is_stopped = true,
                }
            }
            Action::Send => {
                let name = state.node.journal[state.hub.journal().len()]?;
                state.hub.epochs.last_mut()?.1.push(name);
            }
            Action::Acknowledge => state.node.acknowledged = state.hub.journal().len(),
            Action::RestoreNode(place) => {
                state.node = state.past_nodes[place].clone();
                state.node_restores += 1;
                state.is_open = false;
                // Whatever stands on the disk that is in use now counts again.
                let held = state.node.journal.iter().flatten();
                state.promised.extend(held.copied().collect::<Vec<_>>());
                state.promised.sort_unstable();
                state.promised.dedup();
                state.keep_promises_of_disks_in_use();
            }
            Action::RestoreHub(place) => {
                state.hub = state.past_hubs[place].clone();
                state.hub_restores += 1;
                state.is_open = false;
                state.keep_promises_of_disks_in_use();
            }
            Action::NewEpoch => {
                // From the clock: larger than any that there was.
                state.hub.epochs.push((100, Vec::new()));
                state.new_epochs += 1;
                state.is_open = false;
                state.is_stopped = false;
            }
        }
        state.remember();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no session while the hub has lost what it acknowledged", {
                |_, state: &State| !(state.is_open && state.knows_more_than_the_hub())
            }),
            Property::always(
                "without a restored hub no link stops",
                |_, state: &State| state.hub_restores > 0 || !state.is_stopped,
            ),
            Property::always("nothing is lost in silence", |_, state: &State| {
                let is_kept =
                    |name: &u32| state.hub.has(*name) || state.node.journal.contains(&Some(*name));
                state.promised.iter().all(is_kept)
            }),
            Property::always("what is sent and acknowledged is all there is", {
                // In line: nothing to send, nothing to acknowledge. Then the
                // hub has everything that was promised.
                |_, state: &State| {
                    let is_in_line = state.is_open
                        && state.node.journal.len() == state.hub.journal().len()
                        && state.node.acknowledged == state.hub.journal().len();
                    !is_in_line || state.promised.iter().all(|name| state.hub.has(*name))
                }
            }),
            Property::sometimes("a hub that went back stops the link", |_, state: &State| {
                state.is_stopped && state.knows_more_than_the_hub()
            }),
            Property::sometimes("a new epoch brings it all back", |_, state: &State| {
                state.new_epochs > 0
                    && state.is_open
                    && state.hub_restores > 0
                    && state.promised.len() == EVENTS as usize
                    && state.promised.iter().all(|name| state.hub.has(*name))
                    && !state.hub.journal().is_empty()
            }),
        ]
    }
}

/// Scenario: all states within two events, a restore of the hub and two of
/// the node to any state that they had, and a new epoch.
/// Guarantee: the properties above, in each of them: what a restored hub has
/// lost stops the link or comes again, never goes missing in silence.
#[test]
fn a_restored_hub_is_never_trusted_in_silence() {
    let checker = Restored.checker().threads(2).spawn_dfs().join();
    checker.assert_properties();
    assert!(
        checker.unique_state_count() > 5_000,
        "{}",
        checker.unique_state_count()
    );
}
