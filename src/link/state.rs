//! What a link tells about itself while it lives.

use crate::{domain::Micros, exchange::Heartbeat};

/// How a link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not connected since this process started.
    NeverConnected,
    /// Dialling or opening.
    Connecting,
    /// Open.
    Connected,
    /// Lost, or ended in good order; it will come back.
    Disconnected {
        /// Why, for people.
        why: String,
    },
    /// The peer, or our own check of it, refuses: certificate or registration.
    Refused {
        /// For machines.
        reason: String,
        /// Why, and what to do.
        why: String,
    },
    /// The two ends hold different journals; a person has to decide.
    Mismatch {
        /// `JOURNAL_FORKED` or `HUB_BEHIND`.
        reason: String,
        /// Why, and what to do.
        why: String,
    },
}

/// Something about a link that a person must look at, whatever its phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAlarm {
    /// For machines, for example `TWO_INSTANCES`.
    pub reason: String,
    /// What is wrong, and what to do.
    pub why: String,
    /// Shown until then; `None`: until it is taken back.
    pub until: Option<Micros>,
}

/// What a link tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// How it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Micros,
    /// Last byte from the peer.
    pub last_heard: Option<Micros>,
    /// The peer's last heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// The peer's clock minus ours.
    pub clock_skew_ms: i64,
    /// When the peer's certificate ends.
    pub peer_certificate_expires_at: Option<Micros>,
    /// The peer's software.
    pub peer_software: String,
    /// What a person must look at.
    pub alarm: Option<LinkAlarm>,
}

impl LinkState {
    /// Before the first attempt.
    pub fn new(now: Micros) -> Self {
        Self {
            phase: Phase::NeverConnected,
            since: now,
            last_heard: None,
            heartbeat: None,
            clock_skew_ms: 0,
            peer_certificate_expires_at: None,
            peer_software: String::new(),
            alarm: None,
        }
    }

    /// The alarm, while it stands.
    pub fn alarm_at(&self, now: Micros) -> Option<&LinkAlarm> {
        let alarm = self.alarm.as_ref()?;
        alarm.until.is_none_or(|until| now < until).then_some(alarm)
    }

    /// Goes to a phase; the time of the change moves only if it is another one.
    pub fn enter(&mut self, phase: Phase, now: Micros) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
    }
}
