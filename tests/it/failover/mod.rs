//! A nation of real processes: hubs on one PostgreSQL, adapters that know them
//! all, and load at every door, while hubs and servers are killed, paused,
//! promoted and upgraded.
//!
//! `JEMBATAN_TEST_FAILOVER_ROUNDS` for more rounds of faults,
//! `JEMBATAN_TEST_FAILOVER_ADAPTERS` for more adapters, and
//! `JEMBATAN_TEST_SEED` for the same moments again; each test prints them.

mod alone;
mod checks;
mod database;
mod kills;
mod load;
mod nation;
mod pauses;
mod promotion;
pub(crate) mod servers;
mod upgrade;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;

/// A number of the long mode; `usual` without it.
fn scaled(variable: &str, usual: usize) -> usize {
    let asked = std::env::var(variable).ok();
    asked.map_or(usual, |text| text.parse().unwrap())
}

fn rounds(usual: usize) -> usize {
    scaled("JEMBATAN_TEST_FAILOVER_ROUNDS", usual)
}

fn adapters(usual: usize) -> usize {
    scaled("JEMBATAN_TEST_FAILOVER_ADAPTERS", usual)
}

/// When faults come: by a seed that is printed.
struct Moments(StdRng);

impl Moments {
    fn new() -> Self {
        let asked = std::env::var("JEMBATAN_TEST_SEED").ok();
        let seed = asked.map_or_else(rand::random, |text| text.parse().unwrap());
        println!("JEMBATAN_TEST_SEED={seed}");
        Self(StdRng::seed_from_u64(seed))
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.0.random_range(from_ms..to_ms))
    }

    fn one_of(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }
}
