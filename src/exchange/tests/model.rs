//! The rules of opening, model-checked: every interleaving of hand-overs,
//! deliveries of one entry, opening, and restores of the node to any state
//! that it had, within small bounds.

use stateright::{Checker as _, Model, Property};

use super::toy::{Hub, Node, submission};
use crate::exchange::Entry;

const EVENTS: u32 = 3;
const RESTORES: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// Names in the node's journal; `None` is a gap.
    node: Vec<Option<u32>>,
    acknowledged: u64,
    hub: Vec<u32>,
    /// States that the node's disk had: journal and acknowledged.
    past: Vec<(Vec<Option<u32>>, u64)>,
    next: u32,
    restores: u8,
    is_open: bool,
    /// Handed over, and neither lost with its only disk.
    promised: Vec<u32>,
    /// What was acknowledged at each position.
    agreed: Vec<u32>,
    stopped: bool,
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Submit,
    Open,
    Send,
    Acknowledge,
    Cut,
    Restore(usize),
}

struct Opening;

fn name_of(entry: &Entry) -> u32 {
    let text = std::str::from_utf8(&entry.event).unwrap();
    text.trim_start_matches("event ").parse().unwrap()
}

/// The real node and hub of a state: the model keeps names only.
fn real(state: &State) -> (Node, Hub) {
    let mut hub = Hub::default();
    hub.accept(state.hub.iter().map(|name| submission(*name)).collect());
    let mut node = Node::default();
    for (place, name) in state.node.iter().enumerate() {
        // A gap holds what the hub has there.
        let entry = submission(name.unwrap_or_else(|| state.hub[place]));
        node.append(entry);
    }
    if state.acknowledged > 0 {
        node.acknowledged = Some(node.chains[state.acknowledged as usize - 1]);
    }
    (node, hub)
}

impl Model for Opening {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            node: Vec::new(),
            acknowledged: 0,
            hub: Vec::new(),
            past: vec![(Vec::new(), 0)],
            next: 0,
            restores: 0,
            is_open: false,
            promised: Vec::new(),
            agreed: Vec::new(),
            stopped: false,
            broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.next < EVENTS {
            actions.push(Action::Submit);
        }
        if state.is_open {
            actions.push(Action::Cut);
            if state.hub.len() < state.node.len() {
                actions.push(Action::Send);
            }
            if (state.acknowledged as usize) < state.hub.len() {
                actions.push(Action::Acknowledge);
            }
        } else {
            actions.push(Action::Open);
        }
        if state.restores < RESTORES {
            actions.extend((0..state.past.len()).map(Action::Restore));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Submit => {
                state.node.push(Some(state.next));
                state.promised.push(state.next);
                state.next += 1;
            }
            Action::Open => {
                let (mut node, hub) = real(last);
                match node.open(&hub) {
                    Ok(plan) => {
                        let names = node.submissions.iter();
                        state.node = names.map(|entry| entry.as_ref().map(name_of)).collect();
                        state.acknowledged = plan.hub_head.position;
                        state.is_open = true;
                        agree(&mut state);
                    }
                    Err(_) => state.stopped = true,
                }
            }
            Action::Send => {
                // What the node sends is what it holds at the hub's next position.
                let name = state.node[state.hub.len()]?;
                state.hub.push(name);
            }
            Action::Acknowledge => {
                state.acknowledged = state.hub.len() as u64;
                agree(&mut state);
            }
            Action::Cut => state.is_open = false,
            Action::Restore(place) => {
                let (node, acknowledged) = state.past[place].clone();
                state
                    .promised
                    .retain(|name| last.hub.contains(name) || node.contains(&Some(*name)));
                state.node = node;
                state.acknowledged = acknowledged;
                state.is_open = false;
                state.restores += 1;
            }
        }
        let now = (state.node.clone(), state.acknowledged);
        if !state.past.contains(&now) {
            state.past.push(now);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "an honest hub never makes a node stop",
                |_, state: &State| !state.stopped,
            ),
            Property::always(
                "no acknowledged position gets other content",
                |_, state: &State| !state.broken,
            ),
            Property::always(
                "what is promised is at the hub or on its way",
                |_, state: &State| {
                    let held =
                        |name: &u32| state.hub.contains(name) || state.node.contains(&Some(*name));
                    state.promised.iter().all(held)
                },
            ),
            Property::sometimes("a restored node is in line again", |_, state: &State| {
                let is_same = state.node.len() == state.hub.len() && !state.hub.is_empty();
                state.restores == RESTORES && state.is_open && is_same
            }),
            Property::sometimes("entries are set aside and go again", |_, state: &State| {
                state.restores > 0 && state.hub.len() > EVENTS as usize
            }),
        ]
    }
}

fn agree(state: &mut State) {
    for place in 0..state.acknowledged as usize {
        let name = state.hub[place];
        match state.agreed.get(place) {
            Some(before) => state.broken |= *before != name,
            None => state.agreed.push(name),
        }
    }
}

/// Scenario: all states within three events and two restores.
/// Guarantee: the properties above, in each of them.
#[test]
fn the_rules_of_opening_hold_in_every_interleaving() {
    let checker = Opening.checker().threads(2).spawn_dfs().join();
    checker.assert_properties();
    assert!(
        checker.unique_state_count() > 1_000,
        "{}",
        checker.unique_state_count()
    );
}
