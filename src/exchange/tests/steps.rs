//! What may happen next in a random schedule.

use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Submit(u8),
    Connect,
    /// So many moves of frames and disks, spread by the seed.
    Pump(u8, u64),
    /// The line breaks: nothing in it arrives. Each end goes on for a while
    /// with what has arrived, before it meets the other one again.
    Cut(u64),
    /// The node's process dies; the hub goes on for a while.
    CrashNode(u64),
    /// The hub's process dies; the node goes on for a while.
    CrashHub(u64),
    RestoreNode(prop::sample::Index),
    LoseDisk,
    /// The hub's operator begins a new epoch.
    NewEpoch,
    RestoreHub(prop::sample::Index),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Submit),
        3 => Just(Step::Connect),
        6 => (1..60_u8, any::<u64>()).prop_map(|(moves, seed)| Step::Pump(moves, seed)),
        1 => any::<u64>().prop_map(Step::Cut),
        1 => any::<u64>().prop_map(Step::CrashNode),
        1 => any::<u64>().prop_map(Step::CrashHub),
        1 => any::<prop::sample::Index>().prop_map(Step::RestoreNode),
        1 => Just(Step::LoseDisk),
        1 => Just(Step::NewEpoch),
    ]
}

pub(super) fn step_or_hub_restored() -> impl Strategy<Value = Step> {
    prop_oneof![
        9 => step(),
        1 => any::<prop::sample::Index>().prop_map(Step::RestoreHub),
    ]
}

/// The next of a stream of numbers, below a limit.
pub(super) fn roll(dice: &mut u64, below: u64) -> u64 {
    *dice = dice
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*dice >> 33) % below
}
