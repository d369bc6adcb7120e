//! Four days without a hub, on simulated time: the journals, the sessions and
//! the retry schedule as they are, without sockets and disks.

use std::time::Duration;

use crate::exchange::{Retry, RetryCause};

use super::{
    schedule::World,
    steps::{Step, roll},
};

const FOUR_DAYS: u64 = 4 * 24 * 3_600;
/// The longest delay between two attempts.
const LONGEST: u64 = 60;

/// Schedules: a hundred in the ordinary run.
fn schedules() -> u64 {
    let asked = std::env::var("JEMBATAN_TEST_OUTAGES").ok();
    asked.map_or(100, |text| text.parse().unwrap())
}

/// One outage; seconds since its beginning.
fn outage(seed: u64) {
    let mut dice = seed;
    let mut world = World::new();
    // What is under way when the line breaks is part of it.
    world.run(&Step::Submit(5));
    world.run(&Step::Connect);
    world.run(&Step::Pump(roll(&mut dice, 40) as u8, seed));
    world.run(&Step::Cut(seed));
    let restart_at = 60 + roll(&mut dice, FOUR_DAYS - 3_600);
    let back_at = restart_at + 120 + roll(&mut dice, 1_800);
    let mut is_stopped = false;
    let mut retry = Retry::new();
    let (mut next_try, mut next_filing) = (0, 20);
    let (mut attempts, mut filed) = (0_u64, 5_u64);
    let now = loop {
        let now = next_try.min(next_filing);
        if !is_stopped && now >= restart_at && now < back_at {
            // SIGTERM: nothing of the process is left but its disk.
            world.run(&Step::CrashNode(seed));
            is_stopped = true;
        }
        if is_stopped && now < back_at {
            (next_try, next_filing) = (back_at, back_at.max(next_filing));
            continue;
        }
        if is_stopped {
            is_stopped = false;
            retry = Retry::new();
        }
        if now == next_filing {
            world.run(&Step::Submit(1));
            filed += 1;
            next_filing = now + 3_600 + roll(&mut dice, 7_200);
            continue;
        }
        attempts += 1;
        if now >= FOUR_DAYS {
            break now;
        }
        let random = roll(&mut dice, 1_000) as f64 / 1_000.0;
        let delay = retry.delay(RetryCause::Lost, Duration::ZERO, random);
        assert!(delay <= Duration::from_secs(LONGEST));
        next_try = now + delay.as_secs().max(1);
    };
    assert!(now <= FOUR_DAYS + LONGEST, "it comes back within a minute");
    // Half of the cap on average, and a few quick ones at each beginning.
    assert!(attempts < FOUR_DAYS / 20, "{attempts} attempts are a loop");
    assert!(world.settle());
    world.check_settled();
    assert_eq!(
        world.hub.submissions.len() as u64,
        filed,
        "count in = count out"
    );
}

/// Scenario: the line breaks with frames under way; for four days there is no
/// hub; the node goes on filing, is stopped with SIGTERM at a random moment and
/// started again within half an hour; then the hub is back. A hundred schedules,
/// more by `JEMBATAN_TEST_OUTAGES`.
/// Guarantee: count in = count out, from the first minute on, each once and in
/// order; the node tries for ever, never more rarely than once a minute and
/// without hurry, and is back within a minute.
#[test]
fn four_days_without_a_hub_lose_nothing() {
    let first: u64 = std::env::var("JEMBATAN_TEST_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    for seed in (0..schedules()).map(|n| first.wrapping_add(n)) {
        let outcome = std::panic::catch_unwind(|| outage(seed));
        assert!(
            outcome.is_ok(),
            "again with JEMBATAN_TEST_SEED={seed} JEMBATAN_TEST_OUTAGES=1"
        );
    }
}
