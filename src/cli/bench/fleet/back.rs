//! How parties come back.

use std::time::Duration;

use serde::Serialize;

use crate::domain::Micros;

/// When each party was linked.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Sorted.
    came: Vec<Micros>,
    since: Micros,
}

/// How all came back after the hub was away.
#[derive(Debug, Serialize)]
pub(super) struct Return {
    /// From the hub's end until it served again.
    pub(super) hub_away_seconds: f64,
    /// From the hub's end until the last one had a session.
    pub(super) all_back_seconds: f64,
    /// From the moment at which the hub served again.
    pub(super) all_back_after_start_seconds: f64,
    /// Of all parties, those who came within one second, at most.
    pub(super) largest_share_of_a_second: f64,
}

impl Arrivals {
    pub(super) fn new(mut came: Vec<Micros>, since: Micros) -> Self {
        came.sort_unstable();
        Self { came, since }
    }

    /// From the moment from which on it was waited for.
    pub(super) fn took(&self) -> Duration {
        span(self.since, self.last())
    }

    /// After the hub ended at `since` and served again at `served`.
    pub(super) fn after(&self, served: Micros) -> Return {
        Return {
            hub_away_seconds: span(self.since, served).as_secs_f64(),
            all_back_seconds: self.took().as_secs_f64(),
            all_back_after_start_seconds: span(served, self.last()).as_secs_f64(),
            largest_share_of_a_second: self.largest_share(Duration::from_secs(1)),
        }
    }

    fn last(&self) -> Micros {
        self.came.last().copied().unwrap_or(self.since)
    }

    /// The largest share of all that came within such a time, wherever it
    /// begins: by the clock's seconds a crowd could hide on both sides of a tick.
    fn largest_share(&self, within: Duration) -> f64 {
        let mut most = 0;
        let mut first = 0;
        for (place, at) in self.came.iter().enumerate() {
            while self
                .came
                .get(first)
                .is_some_and(|from| span(*from, *at) >= within)
            {
                first += 1;
            }
            most = most.max(place + 1 - first);
        }
        most as f64 / self.came.len().max(1) as f64
    }
}

fn span(from: Micros, to: Micros) -> Duration {
    Duration::from_micros((to.0 - from.0).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: ten parties; five of them come on both sides of a second of
    /// the clock, the others far from each other.
    /// Guarantee: the five are seen as one crowd; the last one counts.
    #[test]
    fn a_crowd_is_seen_wherever_it_stands() {
        let seconds = [20.0, 0.1, 4.8, 4.9, 5.1, 5.2, 5.7, 9.0, 12.0, 15.0];
        let came = seconds.map(|at| Micros((at * 1e6) as i64)).to_vec();
        let back = Arrivals::new(came, Micros(0)).after(Micros(2_000_000));
        assert!(
            (back.largest_share_of_a_second - 0.5).abs() < 1e-9,
            "{back:?}"
        );
        assert!((back.all_back_seconds - 20.0).abs() < 1e-9);
        assert!((back.all_back_after_start_seconds - 18.0).abs() < 1e-9);
        assert!((back.hub_away_seconds - 2.0).abs() < 1e-9);
    }
}
