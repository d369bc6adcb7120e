//! How long a session may live: until its age, until either certificate ends,
//! until the hub has a new certificate, or until it is told to stop.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{domain::Micros, exchange::DrainReason, identity::Material, runtime::random_unit};

/// How long before the end of a certificate its session drains, so that there
/// is time to come back with the next one.
const BEFORE_EXPIRY: Duration = Duration::from_secs(30);
/// After a new certificate of the hub, sessions end spread over this time: a
/// thousand parties must not come back in one moment, and each may do so at
/// once.
const RELOAD_SPREAD: Duration = Duration::from_secs(10);

/// When a session ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// After so long.
    pub(super) after: Duration,
    /// Why then.
    pub(super) reason: DrainReason,
}

impl Lifetime {
    /// The first of: the greatest age, spread by a tenth (`random` in [0, 1))
    /// because sessions that began together shall not end together, and the
    /// earlier end of the two certificates.
    pub(super) fn new(max_age: Duration, ends: Micros, now: Micros, random: f64) -> Self {
        let age = max_age.mul_f64(0.9 + 0.1 * random);
        let left = Duration::from_micros((ends.0 - now.0).max(0).unsigned_abs());
        // One that is about to end anyway is used to its end: to drain at once
        // would be to refuse it.
        let left = if left > 2 * BEFORE_EXPIRY {
            left - BEFORE_EXPIRY
        } else {
            left
        };
        if left < age {
            Self {
                after: left,
                reason: DrainReason::CertificateExpires,
            }
        } else {
            Self {
                after: age,
                reason: DrainReason::Age,
            }
        }
    }

    /// Tells a session to end: at its time, when it is stopped from outside,
    /// or when the hub's certificate was replaced.
    pub(super) fn watch(
        self,
        mut stop: watch::Receiver<Option<DrainReason>>,
        mut material: watch::Receiver<Arc<Material>>,
    ) -> watch::Receiver<Option<DrainReason>> {
        let (tell, told) = watch::channel(None);
        let own = material.borrow_and_update().identity().fingerprint.clone();
        tokio::spawn(async move {
            let Self { after, mut reason } = self;
            let mut at = Instant::now() + after;
            loop {
                tokio::select! {
                    () = tell.closed() => return,
                    () = tokio::time::sleep_until(at) => break,
                    told = stop.wait_for(Option::is_some) => {
                        reason = told.ok().and_then(|told| *told).unwrap_or(DrainReason::Stopping);
                        break;
                    }
                    Ok(()) = material.changed() => {
                        let is_other = material.borrow_and_update().identity().fingerprint != own;
                        let then = Instant::now() + RELOAD_SPREAD.mul_f64(random_unit());
                        if is_other && then < at {
                            at = then;
                            reason = DrainReason::Reloaded;
                        }
                    }
                }
            }
            tell.send_replace(Some(reason));
            tell.closed().await;
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn ends_in(seconds: i64) -> Lifetime {
        Lifetime::new(DAY, Micros(seconds * 1_000_000), Micros(0), 0.5)
    }

    /// Scenario: certificates that outlive the session, that end before it
    /// would, that are about to end, and that have ended.
    /// Guarantee: the first of the ends counts, with its own reason, never
    /// later than the certificate, and never by draining at once while it is
    /// still good.
    #[test]
    fn the_first_end_counts() {
        let old = ends_in(30 * 86_400);
        assert_eq!(old.reason, DrainReason::Age);
        assert!(old.after > DAY.mul_f64(0.9) && old.after <= DAY);
        let expires = |seconds, after| {
            let found = ends_in(seconds);
            assert_eq!(found.reason, DrainReason::CertificateExpires);
            assert_eq!(found.after, Duration::from_secs(after));
        };
        expires(3_600, 3_570);
        expires(20, 20);
        expires(-5, 0);
    }

    /// Scenario: many sessions that began in one moment.
    /// Guarantee: they do not end in one moment.
    #[test]
    fn sessions_that_began_together_end_apart() {
        let end = |random| Lifetime::new(DAY, Micros(i64::MAX), Micros(0), random).after;
        assert!(end(0.999) - end(0.0) > DAY.mul_f64(0.09));
    }

    /// Scenario: nobody does anything until the session's time has come.
    /// Guarantee: it is told to end then, not before, with the reason.
    #[tokio::test(start_paused = true)]
    async fn a_session_is_told_at_its_time() {
        let (_stop, stopped) = watch::channel(None);
        let (_newest, material) = watch::channel(Arc::new(crate::hub::testing::material()));
        let life = ends_in(3_600);
        let mut told = life.watch(stopped, material);
        let began = Instant::now();
        let reason = *told.wait_for(Option::is_some).await.unwrap();
        assert_eq!(reason, Some(DrainReason::CertificateExpires));
        let passed = began.elapsed();
        assert!(passed >= life.after && passed < life.after + Duration::from_secs(1));
    }

    /// Scenario: the hub takes a new certificate into use; another time only
    /// its lists changed.
    /// Guarantee: the session renews itself within the spread for the first,
    /// and not at all for the second.
    #[tokio::test(start_paused = true)]
    async fn a_new_certificate_of_the_hub_renews_sessions() {
        let (_stop, stopped) = watch::channel(None);
        let first = Arc::new(crate::hub::testing::material());
        let (newest, material) = watch::channel(first.clone());
        let mut told = ends_in(3_600).watch(stopped, material);
        newest.send_replace(first);
        tokio::time::sleep(2 * RELOAD_SPREAD).await;
        assert_eq!(*told.borrow_and_update(), None);
        newest.send_replace(Arc::new(crate::hub::testing::material()));
        let began = Instant::now();
        let reason = *told.wait_for(Option::is_some).await.unwrap();
        assert_eq!(reason, Some(DrainReason::Reloaded));
        assert!(began.elapsed() <= RELOAD_SPREAD + Duration::from_millis(10));
    }
}
