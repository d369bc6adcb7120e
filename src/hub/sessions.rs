//! Live sessions of parties: one each. A new session ends the old one, and
//! whatever takes a party's right away ends its session within seconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    domain::{Micros, PartyId, PartyMode},
    exchange::DrainReason,
    identity::{Material, PeerIdentity},
    store::{Registry, SessionToken},
};

/// The loser of two instances of one party stays away for so long.
pub const FENCED_MICROS: i64 = 60_000_000;
/// What a contest is called in logs and on the status page.
pub const TWO_INSTANCES: &str = "TWO_INSTANCES";
/// Processes of a party that are remembered after another one took over.
const REMEMBERED: usize = 8;

/// What is known of a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Fences writes.
    pub token: SessionToken,
    /// The node's instance: its data directory.
    pub instance_id: [u8; 16],
    /// The node's incarnation: its process. `None`: it does not say.
    pub incarnation: Option<[u8; 16]>,
    /// The certificate.
    pub identity: Arc<PeerIdentity>,
    /// The certificate named the party itself (else by registered fingerprint).
    pub named: bool,
}

impl SessionFacts {
    fn process(&self) -> Process {
        Process {
            instance_id: self.instance_id,
            incarnation: self.incarnation,
        }
    }
}

/// A process of a party's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    instance_id: [u8; 16],
    incarnation: Option<[u8; 16]>,
}

impl Process {
    /// An older node does not say its incarnation: then one data directory is
    /// taken for one process.
    fn is(&self, other: &Self) -> bool {
        match (self.incarnation, other.incarnation) {
            (Some(own), Some(others)) => own == others,
            _ => self.instance_id == other.instance_id,
        }
    }
}

#[derive(Debug)]
struct Live {
    facts: SessionFacts,
    end: watch::Sender<Option<DrainReason>>,
}

/// A process after which another one took over.
#[derive(Debug, Clone, Copy)]
struct Replaced {
    process: Process,
    /// It lost a contest: until then it is not let in beside the winner.
    away_until: Micros,
}

#[derive(Debug, Default)]
struct Seat {
    live: Option<Live>,
    replaced: VecDeque<Replaced>,
}

/// Every live session of this hub.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    seats: Arc<Mutex<HashMap<PartyId, Seat>>>,
}

/// A session that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Keeps it in the list.
    pub guard: SessionGuard,
    /// Says when it has to end.
    pub end: watch::Receiver<Option<DrainReason>>,
    /// Another machine with this party's certificate was thrown out for it.
    pub contest: Option<Contest>,
}

/// Two live processes use one party's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// For people: what was seen, and what to do.
    pub why: String,
}

/// A process that lost a contest comes back too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooEarly {
    /// How long it still has to stay away.
    pub wait: Duration,
}

/// Takes the session out of the list when it is dropped.
#[derive(Debug)]
pub struct SessionGuard {
    sessions: Sessions,
    party: PartyId,
    token: SessionToken,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some(seat) = self.sessions.lock().get_mut(&self.party)
            && seat
                .live
                .as_ref()
                .is_some_and(|live| live.facts.token == self.token)
        {
            seat.live = None;
        }
    }
}

impl Seat {
    /// Whether two machines are live: another data directory beside the live
    /// one; or a copy of the same one, which shows when a process comes back
    /// after its successor began. (A process that was restarted never does.)
    fn contest(&self, live: &Process, comer: &Process) -> Option<Contest> {
        let who = if live.instance_id != comer.instance_id {
            "two machines use this party's certificate"
        } else if self.replaced.iter().any(|old| old.process.is(comer)) {
            "two machines run with a copy of one data directory and this party's certificate"
        } else {
            return None;
        };
        Some(Contest {
            why: format!(
                "{who} (instances {} and {}): stop one of them; the later one was let in, the other waits for a minute",
                hex::encode(live.instance_id),
                hex::encode(comer.instance_id)
            ),
        })
    }

    fn remember(&mut self, process: Process, away_until: Micros) {
        self.forget(&process);
        self.replaced.push_back(Replaced {
            process,
            away_until,
        });
        if self.replaced.len() > REMEMBERED {
            self.replaced.pop_front();
        }
    }

    fn forget(&mut self, process: &Process) {
        self.replaced.retain(|old| !old.process.is(process));
    }
}

impl Sessions {
    /// Whether a session of this party fits in. One that it has already counts
    /// for nothing: the new one takes its place.
    pub fn has_room(&self, party: &PartyId, max_sessions: usize) -> bool {
        self.is_live(party) || self.count() < max_sessions
    }

    /// Begins a session and ends the party's earlier one. A second machine
    /// with the same certificate is an alarm; the same machine that comes back,
    /// or opens a new session beside the old one, is not.
    ///
    /// # Errors
    /// The winner of a contest is live, and the loser comes back too early.
    pub fn begin(
        &self,
        party: &PartyId,
        facts: SessionFacts,
        now: Micros,
    ) -> Result<Begun, TooEarly> {
        let mut seats = self.lock();
        let seat = seats.entry(party.clone()).or_default();
        let comer = facts.process();
        let earlier = seat.live.as_ref().map(|live| live.facts.process());
        let contest = match &earlier {
            Some(earlier) if !earlier.is(&comer) => {
                let lost = seat.replaced.iter().find(|old| old.process.is(&comer));
                let left = lost.map_or(0, |lost| lost.away_until.0 - now.0);
                if left > 0 {
                    return Err(TooEarly {
                        wait: Duration::from_micros(left.unsigned_abs()),
                    });
                }
                let contest = seat.contest(earlier, &comer);
                let away = if contest.is_some() { FENCED_MICROS } else { 0 };
                seat.remember(*earlier, Micros(now.0 + away));
                contest
            }
            _ => None,
        };
        seat.forget(&comer);
        let (end, ended) = watch::channel(None);
        let guard = SessionGuard {
            sessions: self.clone(),
            party: party.clone(),
            token: facts.token,
        };
        if let Some(earlier) = seat.live.replace(Live { facts, end }) {
            let reason = match &contest {
                Some(Contest { why }) => {
                    tracing::error!(event = "two_instances_of_one_party", reason = TWO_INSTANCES, %party, why);
                    DrainReason::Fenced
                }
                None => DrainReason::Reloaded,
            };
            earlier.end.send_replace(Some(reason));
        }
        Ok(Begun {
            guard,
            end: ended,
            contest,
        })
    }

    /// Ends the sessions of parties that may not have one any more: by the
    /// registry, or by a revocation list.
    pub fn enforce(&self, registry: &Registry, material: &Material) {
        for (party, seat) in self.lock().iter() {
            let Some(live) = &seat.live else { continue };
            if let Some(why) = forbidden(party, &live.facts, registry, material) {
                let serial = &live.facts.identity.serial;
                tracing::warn!(event = "session_revoked", %party, serial, why);
                live.end.send_replace(Some(DrainReason::Revoked));
            }
        }
    }

    /// Asks every session to end.
    pub fn drain_all(&self, reason: DrainReason) {
        for live in self.lock().values().filter_map(|seat| seat.live.as_ref()) {
            live.end.send_if_modified(|end| {
                let is_first = end.is_none();
                if is_first {
                    *end = Some(reason);
                }
                is_first
            });
        }
    }

    /// Whether a later session of this party has taken over.
    pub fn is_superseded(&self, party: &PartyId, token: SessionToken) -> bool {
        let seats = self.lock();
        let live = seats.get(party).and_then(|seat| seat.live.as_ref());
        live.is_some_and(|live| live.facts.token != token)
    }

    /// Whether this party has a live session.
    pub fn is_live(&self, party: &PartyId) -> bool {
        self.lock()
            .get(party)
            .is_some_and(|seat| seat.live.is_some())
    }

    /// How many are live.
    pub fn count(&self) -> usize {
        let seats = self.lock();
        seats.values().filter(|seat| seat.live.is_some()).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PartyId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a party may not have this session; `None`: it may.
pub fn forbidden(
    party: &PartyId,
    facts: &SessionFacts,
    registry: &Registry,
    material: &Material,
) -> Option<&'static str> {
    let Some(registered) = registry.directory.parties.get(party) else {
        return Some("not registered");
    };
    if !registered.enabled {
        return Some("disabled");
    }
    if registered.mode != PartyMode::Stream {
        return Some("registered as one that keeps no journal");
    }
    if registry.revoked_serials.contains(&facts.identity.serial) {
        return Some("certificate revoked at this hub");
    }
    if material.revokes(&facts.identity) {
        return Some("certificate revoked by its CA (CRL)");
    }
    let is_known_fingerprint = registered
        .certificate_fingerprints
        .contains(&facts.identity.fingerprint);
    if !facts.named && !is_known_fingerprint {
        return Some("certificate fingerprint not registered");
    }
    None
}

#[cfg(test)]
mod tests;
