//! How many wrong codes are looked at before somebody has to wait. Guessing a
//! code of 160 bits is hopeless; this keeps the attempt from costing anything,
//! and makes it seen.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{Quota, RateLimiter, clock::Clock as _, state::keyed::HashMapStateStore};
use tokio::time::Instant;

use crate::domain::PartyId;

/// Time for one more mistake.
const FOR_ONE: Duration = Duration::from_secs(60);
/// Mistakes before the one that has to wait.
const FREE: NonZeroU32 = NonZeroU32::new(4).unwrap();
/// Keys after which those that are good again are forgotten.
const KEYS_KEPT: usize = 10_000;

/// Who makes mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Culprit {
    /// Whoever calls from this address; of IPv6 the network, since everybody
    /// has as many addresses in it as he likes.
    Address(IpAddr),
    /// Whoever tries codes of this party's invitations.
    Party(PartyId),
}

impl Culprit {
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
            v4 => v4,
        })
    }
}

/// Counts mistakes; who made five of them has to wait.
pub(super) struct Patience<K: Hash + Eq + Clone> {
    mistakes: RateLimiter<K, HashMapStateStore<K>, governor::clock::MonotonicClock>,
    waiting: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> Patience<K> {
    pub(super) fn new() -> Self {
        let quota = Quota::with_period(FOR_ONE).unwrap_or(Quota::per_minute(FREE));
        Self {
            mistakes: RateLimiter::new(
                quota.allow_burst(FREE),
                HashMapStateStore::default(),
                governor::clock::MonotonicClock,
            ),
            waiting: Mutex::new(HashMap::new()),
        }
    }

    /// How long this one has to wait still.
    pub(super) fn wait(&self, key: &K) -> Option<Duration> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let left = waiting.get(key)?.checked_duration_since(Instant::now())?;
        Some(left).filter(|left| !left.is_zero())
    }

    /// One mistake more.
    pub(super) fn count(&self, key: &K) {
        if self.mistakes.len() > KEYS_KEPT {
            self.mistakes.retain_recent();
        }
        let Err(not_until) = self.mistakes.check_key(key) else {
            return;
        };
        let wait = not_until.wait_time_from(governor::clock::MonotonicClock.now());
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, until| *until > now);
        waiting.insert(key.clone(), now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: four mistakes, then a fifth; another one makes none; two
    /// addresses of one IPv6 network.
    /// Guarantee: the fifth has to wait, for about a minute, and nobody else
    /// does; whoever has a network counts once.
    #[test]
    fn the_fifth_mistake_has_to_wait() {
        let patience = Patience::new();
        let one = Culprit::at("192.0.2.1".parse().unwrap());
        let other = Culprit::at("192.0.2.2".parse().unwrap());
        for _ in 0..4 {
            patience.count(&one);
            assert_eq!(patience.wait(&one), None);
        }
        patience.count(&one);
        let wait = patience.wait(&one).unwrap();
        assert!(wait > FOR_ONE / 2 && wait <= FOR_ONE, "{wait:?}");
        assert_eq!(patience.wait(&other), None);
        let [a, b, c] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"]
            .map(|text| Culprit::at(text.parse().unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
