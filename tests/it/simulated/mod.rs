//! Whole nodes on simulated time: a hub and three adapters with real stores,
//! sessions, links and TLS in one process, on a network in memory and on
//! tokio's paused clock. Days of outage pass in a second. The seed says what
//! happens; what the nodes draw themselves (jitter, keys) they draw anew.

mod checks;
mod held;
mod network;
mod nodes;
mod world;

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use world::World;

const FOUR_DAYS: Duration = Duration::from_secs(4 * 24 * 3_600);

/// `JEMBATAN_TEST_SIMULATIONS` schedules; few enough for a minute otherwise.
fn schedules(otherwise: u64) -> u64 {
    let asked = std::env::var("JEMBATAN_TEST_SIMULATIONS").ok();
    asked.map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs schedules, each from its own seed.
fn run(count: u64, schedule: impl AsyncFn(&mut World, &mut StdRng)) {
    let first: u64 = std::env::var("JEMBATAN_TEST_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("JEMBATAN_TEST_SEED={first} JEMBATAN_TEST_SIMULATIONS={count}");
    let began = Instant::now();
    for seed in (0..count).map(|n| first.wrapping_add(n)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let one = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut world = World::new(seed).await;
                let mut dice = StdRng::seed_from_u64(seed);
                schedule(&mut world, &mut dice).await;
                world.settle().await;
                world.end().await;
            });
        });
        let outcome = std::panic::catch_unwind(one);
        assert!(
            outcome.is_ok(),
            "again with JEMBATAN_TEST_SEED={seed} JEMBATAN_TEST_SIMULATIONS=1"
        );
        runtime.shutdown_background();
    }
    println!("{count} schedules in {:?}", began.elapsed());
}

/// Scenario: lines that are cut, fall silent, refuse, are slow and bring later
/// connections first; nodes and hub that are stopped and killed in the middle
/// of things; hand-overs all the while; an outage of a minute to three hours.
/// Guarantee: count in = count out, each once; both ends of every journal hold
/// the same, by chain; everybody is told each complaint in the hub's order
/// without gaps; nobody is an orphan; nobody says "connected" while nothing is
/// heard; attempts to connect are bounded from both sides.
#[test]
fn nothing_is_lost_on_bad_lines() {
    run(schedules(100), async |world, dice| {
        for _ in 0..dice.random_range(5..15) {
            world.step().await;
        }
        let minutes = dice.random_range(1..180_u64);
        world.outage(Duration::from_secs(60 * minutes)).await;
        for _ in 0..dice.random_range(0..5) {
            world.step().await;
        }
    });
}

/// Scenario: four days without a hub, which is off or out of reach, with
/// hand-overs at every node throughout and a node that is stopped and started
/// meanwhile.
/// Guarantee: as above; each node tries for ever, at least once a minute or so
/// and without hurry, and all is in step again within three.
#[test]
fn nodes_outlast_four_days_without_a_hub() {
    run(schedules(10), async |world, dice| {
        for _ in 0..dice.random_range(1..6) {
            world.step().await;
        }
        world.outage(FOUR_DAYS).await;
    });
}
