//! When a link tries again: for ever, exponentially, with full jitter, capped.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// First base delay. Drawn with full jitter, so a blip costs 0.25 s on average.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// No base delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A session that lasted this long was healthy: the next delay is short again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The loser of two instances of one party waits at least this long.
const FENCED_DELAY: Duration = Duration::from_secs(60);

/// Why the link ended, as far as it matters for the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    /// Lost or refused for the moment.
    Lost,
    /// The hub asked for a delay.
    Asked(Duration),
    /// The session ended in good order and a new one is wanted at once.
    Renew,
    /// Another instance of this party took over.
    Fenced,
    /// Certificate or registration: a person has to act, so hurry is useless.
    Refused,
}

/// The schedule of one link.
#[derive(Debug)]
pub struct Retry {
    delays: ExponentialBackoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

fn delays() -> ExponentialBackoff {
    // backon's own jitter adds up to 100 % above the cap, and it stops after
    // three times unless told otherwise: jitter is ours, and there is no limit.
    ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_factor(2.0)
        .without_max_times()
        .build()
}

impl Retry {
    /// Begins with the short delay.
    pub fn new() -> Self {
        Self { delays: delays() }
    }

    /// How long to wait after a session that lived so long; `random` in [0, 1).
    pub fn delay(&mut self, cause: RetryCause, lived: Duration, random: f64) -> Duration {
        if lived >= HEALTHY_AFTER {
            self.delays = delays();
        }
        let spread = |base: Duration| base.mul_f64(random.clamp(0.0, 1.0));
        match cause {
            RetryCause::Renew => Duration::ZERO,
            RetryCause::Lost => spread(self.delays.next().unwrap_or(LONGEST_DELAY)),
            // The asked delay is a lower bound; a little spread keeps a
            // thousand parties from coming back in one moment.
            RetryCause::Asked(asked) => asked + spread(asked / 2),
            RetryCause::Fenced => FENCED_DELAY + spread(FENCED_DELAY / 2),
            RetryCause::Refused => LONGEST_DELAY / 2 + spread(LONGEST_DELAY / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLIP: Duration = Duration::from_secs(1);

    /// Scenario: a hub that is gone for long.
    /// Guarantee: delays grow to the cap, never beyond, and never stop coming.
    #[test]
    fn grows_to_the_cap_and_goes_on_for_ever() {
        let mut retry = Retry::new();
        let drawn: Vec<Duration> = (0..50)
            .map(|_| retry.delay(RetryCause::Lost, BLIP, 0.999))
            .collect();
        assert!(drawn[0] < FIRST_DELAY);
        assert!(drawn.iter().all(|delay| *delay <= LONGEST_DELAY));
        assert!(drawn[49] > LONGEST_DELAY.mul_f64(0.99));
        assert_eq!(retry.delay(RetryCause::Lost, BLIP, 0.0), Duration::ZERO);
    }

    /// Scenario: a session that was healthy for a minute is lost.
    /// Guarantee: the schedule begins anew.
    #[test]
    fn a_healthy_minute_resets() {
        let mut retry = Retry::new();
        for _ in 0..20 {
            retry.delay(RetryCause::Lost, BLIP, 0.5);
        }
        assert!(retry.delay(RetryCause::Lost, HEALTHY_AFTER, 0.999) < FIRST_DELAY);
    }

    /// Scenario: the hub asks for a delay, or another instance took over.
    /// Guarantee: never earlier than asked.
    #[test]
    fn asked_and_fenced_are_lower_bounds() {
        let mut retry = Retry::new();
        let asked = Duration::from_secs(7);
        assert!(retry.delay(RetryCause::Asked(asked), BLIP, 0.0) >= asked);
        assert!(retry.delay(RetryCause::Fenced, BLIP, 0.0) >= Duration::from_secs(60));
        assert!(retry.delay(RetryCause::Refused, BLIP, 0.0) >= Duration::from_secs(30));
        assert_eq!(retry.delay(RetryCause::Renew, BLIP, 0.9), Duration::ZERO);
    }
}
