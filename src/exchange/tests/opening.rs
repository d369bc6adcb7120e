//! The rules of opening, one case each.

use super::toy::{Hub, Node, submission};
use crate::exchange::Verdict;

fn node(names: impl IntoIterator<Item = u32>, acknowledged: u64) -> Node {
    let mut node = Node::default();
    names
        .into_iter()
        .for_each(|name| node.append(submission(name)));
    if acknowledged > 0 {
        node.acknowledged = Some(node.chains[acknowledged as usize - 1]);
    }
    node
}

fn hub(names: impl IntoIterator<Item = u32>) -> Hub {
    let mut hub = Hub::default();
    hub.accept(names.into_iter().map(submission).collect());
    hub
}

fn names(node: &Node) -> Vec<Option<String>> {
    let text = |entry: &crate::exchange::Entry| String::from_utf8(entry.event.to_vec()).unwrap();
    node.submissions
        .iter()
        .map(|entry| entry.as_ref().map(text))
        .collect()
}

/// Scenario: the node is ahead; both are equal; the hub is ahead by what the
/// node has not heard acknowledged.
/// Guarantee: rule 3: sending goes on at H + 1, nothing is set aside.
#[test]
fn one_is_a_prefix_of_the_other() {
    for (own, acknowledged, hubs, sends_from) in [(5, 2, 2, 3), (5, 2, 4, 5), (3, 3, 3, 4)] {
        let mut node = node(0..own, acknowledged);
        let plan = node.open(&hub(0..hubs)).unwrap();
        assert_eq!(plan.adopt, None);
        assert_eq!(plan.hub_head.position + 1, sends_from);
        assert_eq!(node.submissions.len(), own as usize);
    }
}

/// Scenario: the node's disk is lost; the hub holds seven.
/// Guarantee: rule 4: the hub's head is taken over, all seven are to be copied.
#[test]
fn a_lost_disk_takes_all_of_it_back() {
    let mut node = Node::default();
    node.open(&hub(0..7)).unwrap();
    assert_eq!(node.copy, Some((1, 7)));
    assert_eq!(node.head(), hub(0..7).head());
}

/// Scenario: an old backup (three of five, then four others accepted offline:
/// longer and different) meets a hub of five.
/// Guarantee: the hub's five stand; the four go again behind them, in order.
#[test]
fn a_restored_backup_sends_its_own_again() {
    let mut node = node([0, 1, 2, 90, 91, 92, 93], 3);
    let plan = node.open(&hub(0..5)).unwrap();
    assert_eq!(plan.adopt.map(|adopt| adopt.keep_through), Some(3));
    assert_eq!(node.copy, Some((4, 5)));
    let found = names(&node);
    assert_eq!(found[3..5], [None, None]);
    let again: Vec<_> = found[5..]
        .iter()
        .map(|name| name.clone().unwrap())
        .collect();
    assert_eq!(again, ["event 90", "event 91", "event 92", "event 93"]);
}

/// Scenario: the hub has less than it acknowledged, or than it delivered.
/// Guarantee: rule 1: HUB_BEHIND on both sides, nothing changes at the node.
#[test]
fn a_hub_that_went_back_is_recognised() {
    let mut restored = node(0..5, 5);
    let before = restored.clone();
    let verdict = restored.open(&hub(0..3)).unwrap_err();
    assert!(matches!(verdict, Verdict::HubBehind(_)), "{verdict:?}");
    assert_eq!(restored, before);
    assert_eq!(hub(0..3).alarm(&restored.local()), Some("HUB_BEHIND"));
    let mut received = node(0..3, 3);
    received.received = hub(0..5).deliveries;
    let verdict = received.open(&hub(0..3)).unwrap_err();
    assert!(matches!(verdict, Verdict::HubBehind(_)), "{verdict:?}");
}

/// Scenario: hub and node hold other content at a position that was
/// acknowledged, or delivered.
/// Guarantee: rule 2: forked, on both sides; nothing is guessed.
#[test]
fn a_fork_stops_the_link() {
    let mut forked = node(0..5, 5);
    let other = hub([0, 1, 77, 3, 4, 5]);
    let verdict = forked.open(&other).unwrap_err();
    assert!(matches!(verdict, Verdict::Forked(_)), "{verdict:?}");
    assert_eq!(other.alarm(&forked.local()), Some("JOURNAL_FORKED"));
    let mut received = node(0..1, 1);
    received.received = hub([0, 77]).deliveries;
    let verdict = received.open(&hub([0, 1, 2])).unwrap_err();
    assert!(matches!(verdict, Verdict::Forked(_)), "{verdict:?}");
}

/// The hub after a restore to its first `kept` entries, in a new epoch.
fn recovered(kept: u32, epoch: u64) -> Hub {
    let mut hub = hub(0..kept);
    hub.begin_epoch(epoch);
    hub
}

/// Scenario: the hub was restored to three of seven, and begins a new epoch;
/// the node knows six as acknowledged.
/// Guarantee: what comes after the third goes again, in order, from position 1.
#[test]
fn a_new_epoch_resends_what_the_hub_lost() {
    let mut node = node(0..7, 6);
    let plan = node.open(&recovered(3, 9)).unwrap();
    assert_eq!((node.epoch, plan.hub_head.position), (9, 0));
    let expected = (3..7).map(|name| Some(format!("event {name}")));
    assert_eq!(names(&node), expected.collect::<Vec<_>>());
}

/// Scenario: a new epoch meets a node whose old journal is shorter than where
/// the epoch ended; one that differs there beyond what was acknowledged (an
/// old backup); one of which the chain there is still to be copied; one whose
/// epoch the hub does not know any more.
/// Guarantee: each appends all that it has again; the hub's dedup answers.
#[test]
fn what_is_not_proved_to_be_there_goes_again() {
    let shorter = node([0, 1, 90], 2);
    let differs = node([0, 1, 90, 91, 92, 93], 2);
    let mut gap = Node::default();
    gap.open(&hub(0..7)).unwrap();
    gap.append(submission(94));
    let mut elsewhere = Node {
        epoch: 4,
        ..Node::default()
    };
    (0..3).for_each(|name| elsewhere.append(submission(name)));
    elsewhere.acknowledged = elsewhere.chains.last().copied();
    for (mut node, expected) in [
        (shorter, vec![0, 1, 90]),
        (differs, vec![0, 1, 90, 91, 92, 93]),
        (gap, vec![94]),
        (elsewhere, vec![0, 1, 2]),
    ] {
        node.open(&recovered(5, 9)).unwrap();
        let expected: Vec<_> = expected
            .iter()
            .map(|name| Some(format!("event {name}")))
            .collect();
        assert_eq!(names(&node), expected);
        assert_eq!(node.epoch, 9);
    }
}

/// Scenario: the epoch ended at a position that the node knows as acknowledged,
/// with other content; the hub is in an older epoch than the node.
/// Guarantee: forked, and HUB_BEHIND; the node changes nothing.
#[test]
fn a_new_epoch_does_not_hide_a_fork() {
    let mut forked = node(0..5, 5);
    let before = forked.clone();
    let mut other = hub([0, 1, 77]);
    other.begin_epoch(9);
    let verdict = forked.open(&other).unwrap_err();
    assert!(matches!(verdict, Verdict::Forked(_)), "{verdict:?}");
    assert_eq!(forked, before);
    let mut ahead = Node {
        epoch: 9,
        ..Node::default()
    };
    let verdict = ahead.open(&hub(0..3)).unwrap_err();
    assert!(matches!(verdict, Verdict::HubBehind(_)), "{verdict:?}");
}
