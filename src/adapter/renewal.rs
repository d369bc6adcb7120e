//! A party's certificate renews itself: when a third of its life is left the
//! node makes a new key, has it signed over the live link, checks the pair and
//! puts it in place; from there on it goes as with files that a person has put
//! there.
//!
//! Invariants: the key never leaves this machine; what is in use is not touched
//! before its successor has been checked; a hub that does not renew this
//! certificate is asked once a day and is no alarm.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    domain::{Micros, PartyId},
    identity::{
        Files, Material, PeerIdentity, Purpose, ReloadState, TrustDomain, can_install,
        certificates_pem, install, new_key, request_for,
    },
    link::{RenewError, renew_certificate},
    runtime::{Clock, random_unit},
};

/// How often the clock is looked at: it may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How soon a hub that does not renew this certificate is asked again.
const NOT_HERE: Duration = Duration::from_secs(86_400);
/// Longest wait until a new pair of files is in use: they are looked at every
/// two seconds.
const IN_USE: Duration = Duration::from_secs(20);

/// When a certificate is renewed, and when somebody has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    life: Duration,
    due: Micros,
    alarm: Micros,
}

impl Schedule {
    /// Due when a third of the life is left, a little spread, because parties
    /// that joined together shall not renew together; an alarm when it is a
    /// sixth.
    fn of(identity: &PeerIdentity, random: f64) -> Self {
        let life = (identity.not_after.0 - identity.not_before.0).max(0);
        let spread = (life as f64 / 24.0 * random) as i64;
        Self {
            life: Duration::from_micros(life.unsigned_abs()),
            due: Micros(identity.not_after.0 - life / 3 + spread),
            alarm: Micros(identity.not_after.0 - life / 6),
        }
    }

    /// How long to wait after so many failures: exponentially, with jitter, and
    /// often enough that many attempts fit into what is left.
    fn delay(&self, failures: u32, random: f64) -> Duration {
        let first = (self.life / 1_000).clamp(Duration::from_millis(500), Duration::from_secs(60));
        let longest = (self.life / 48).clamp(Duration::from_secs(1), Duration::from_secs(3_600));
        let base = first.saturating_mul(1 << failures.min(16)).min(longest);
        base.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

/// What renews a party's certificate.
pub(super) struct Renewal {
    pub(super) party: PartyId,
    pub(super) files: Files,
    pub(super) trust_domain: TrustDomain,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) material: watch::Receiver<Arc<Material>>,
    /// The connection of the link, while there is one.
    pub(super) channel: watch::Receiver<Option<Channel>>,
    pub(super) state: watch::Sender<ReloadState>,
}

/// Where the renewal of one certificate stands.
struct Attempts {
    schedule: Schedule,
    failures: u32,
    next: Instant,
    is_not_here: bool,
    why: String,
}

impl Renewal {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut attempts = self.begin();
        loop {
            let has_link = self.channel.borrow_and_update().is_some();
            let left = attempts.schedule.due.0 - self.now().0;
            let until_due = Duration::from_micros(left.max(0).unsigned_abs());
            let until_next = attempts.next.saturating_duration_since(Instant::now());
            let wait = until_due.max(until_next);
            if wait.is_zero() && has_link {
                tokio::select! {
                    () = stop.cancelled() => return,
                    outcome = self.attempt() => self.note(outcome, &mut attempts),
                }
            }
            self.look(&attempts, has_link);
            let wait = match has_link {
                true => wait.min(LOOK_AGAIN),
                false => LOOK_AGAIN,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.material.changed() => attempts = self.begin(),
                Ok(()) = self.channel.changed() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(100))) => {}
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    fn begin(&mut self) -> Attempts {
        let identity = self.material.borrow_and_update().identity().clone();
        self.alarm(None);
        Attempts {
            schedule: Schedule::of(&identity, random_unit()),
            failures: 0,
            next: Instant::now(),
            is_not_here: false,
            why: "there was no link to renew it over".to_owned(),
        }
    }

    /// One new pair, from the key to its place.
    async fn attempt(&mut self) -> Result<PeerIdentity, RenewError> {
        let channel = self.channel.borrow().clone();
        let channel = channel.ok_or_else(|| failed("there is no link"))?;
        let key = new_key().map_err(failed)?;
        let request = request_for(&key, self.party.as_str()).map_err(failed)?;
        // Nothing is signed that could not be kept; but a hub that would not
        // sign anyway makes that nobody's trouble, and no request asks for that.
        if let Err(error) = can_install(&self.files) {
            return match renew_certificate(channel, Vec::new()).await {
                Err(RenewError::NotHere(why)) => Err(RenewError::NotHere(why)),
                _ => Err(failed(error)),
            };
        }
        let chain = renew_certificate(channel, request).await?;
        let pair = key + &certificates_pem(&chain);
        let purpose = Purpose::Party(self.party.clone());
        let files = &self.files;
        let installed = install(files, &pair, &purpose, &self.trust_domain, self.now());
        let identity = installed.map_err(failed)?;
        let serial = &identity.serial;
        let in_use = self
            .material
            .wait_for(|material| material.identity().serial == *serial);
        let in_use = tokio::time::timeout(IN_USE, in_use).await.is_ok();
        match in_use {
            true => Ok(identity),
            false => Err(failed("the new files are there and are not taken into use")),
        }
    }

    fn note(&mut self, outcome: Result<PeerIdentity, RenewError>, attempts: &mut Attempts) {
        let party = &self.party;
        match outcome {
            Ok(identity) => {
                tracing::info!(event = "certificate_renewed", %party, serial = %identity.serial);
                self.state.send_modify(|state| state.renewals += 1);
                *attempts = self.begin();
            }
            Err(RenewError::NotHere(why)) => {
                tracing::info!(event = "renewed_elsewhere", %party, why);
                attempts.is_not_here = true;
                attempts.next = Instant::now() + NOT_HERE;
            }
            Err(RenewError::Failed { why, wait }) => {
                let delay = attempts.schedule.delay(attempts.failures, random_unit());
                let delay = delay.max(wait.unwrap_or_default());
                tracing::warn!(event = "renewal_failed", %party, why, again_after = ?delay);
                self.state.send_modify(|state| state.renewal_failures += 1);
                attempts.failures += 1;
                attempts.next = Instant::now() + delay;
                attempts.is_not_here = false;
                attempts.why = why;
            }
        }
    }

    /// Alarms while too little is left.
    fn look(&self, attempts: &Attempts, has_link: bool) {
        let is_late = self.now() >= attempts.schedule.alarm && !attempts.is_not_here;
        if !is_late {
            return;
        }
        let why = match has_link {
            true => &attempts.why,
            false => "there is no link to renew it over",
        };
        self.alarm(Some(format!(
            "less than a sixth of the life of the certificate of {} is left, and it could not be renewed over the link: {why}; it is tried again, and can be renewed by hand (jembatan pki renew)",
            self.party
        )));
    }

    fn alarm(&self, why: Option<String>) {
        self.state.send_if_modified(|state| {
            let is_new = state.not_renewed.is_none() != why.is_none();
            if let Some(why) = why.as_ref().filter(|_| is_new) {
                tracing::error!(event = "certificate_not_renewed", party = %self.party, reason = "CERTIFICATE_NOT_RENEWED", why);
            }
            state.not_renewed = why;
            is_new
        });
    }
}

fn failed(why: impl ToString) -> RenewError {
    RenewError::Failed {
        why: why.to_string(),
        wait: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn lives(micros: i64) -> PeerIdentity {
        PeerIdentity {
            role: None,
            fingerprint: String::new(),
            serial: String::new(),
            issuer: String::new(),
            not_before: Micros(0),
            not_after: Micros(micros),
            uris: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Scenario: a certificate for 90 days and one for 24 seconds, with the
    /// least and the greatest spread.
    /// Guarantee: due when a third is left, at the latest when more than a
    /// quarter is; the alarm comes when a sixth is left, and well before it
    /// many attempts fit in.
    #[test]
    fn a_third_before_the_end() {
        for life in [90 * DAY, 24_000_000] {
            for random in [0.0, 1.0] {
                let schedule = Schedule::of(&lives(life), random);
                assert!(schedule.due.0 >= life - life / 3);
                assert!(schedule.due.0 < life - life / 4);
                assert_eq!(schedule.alarm.0, life - life / 6);
                let left = (schedule.alarm.0 - schedule.due.0).unsigned_abs();
                let waits = (0..3).map(|failures| schedule.delay(failures, 1.0));
                assert!(waits.sum::<Duration>() < Duration::from_micros(left));
            }
        }
    }

    /// Scenario: a renewal that fails again and again.
    /// Guarantee: the delay grows, is spread, and is never longer than an hour.
    #[test]
    fn failures_wait_longer_and_longer() {
        let schedule = Schedule::of(&lives(90 * DAY), 0.0);
        let waits: Vec<Duration> = (0..40).map(|n| schedule.delay(n, 1.0)).collect();
        assert!(waits.is_sorted() && waits[0] < waits[3]);
        assert_eq!(waits[39], Duration::from_secs(3_600));
        assert_eq!(schedule.delay(39, 0.0), Duration::from_secs(1_800));
    }
}
