//! Live sessions of parties: one each. A new session ends the old one, and
//! whatever takes a party's right away ends its session within seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    domain::{PartyId, PartyMode},
    exchange::DrainReason,
    store::{Registry, SessionToken},
};

/// What is known of a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Fences writes.
    pub token: SessionToken,
    /// The node's instance.
    pub instance_id: [u8; 16],
    /// Serial of its certificate, lower-case hex.
    pub serial: String,
    /// SHA-256 of its certificate, lower-case hex.
    pub fingerprint: String,
    /// The certificate named the party itself (else by registered fingerprint).
    pub named: bool,
}

#[derive(Debug)]
struct Live {
    facts: SessionFacts,
    end: watch::Sender<Option<DrainReason>>,
}

/// Every live session of this hub.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    live: Arc<Mutex<HashMap<PartyId, Live>>>,
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
        let mut live = self.sessions.lock();
        let is_ours = live
            .get(&self.party)
            .is_some_and(|found| found.facts.token == self.token);
        if is_ours {
            live.remove(&self.party);
        }
    }
}

impl Sessions {
    /// Whether a session of this party fits in. One that it has already counts
    /// for nothing: the new one takes its place.
    pub fn has_room(&self, party: &PartyId, max_sessions: usize) -> bool {
        let live = self.lock();
        live.contains_key(party) || live.len() < max_sessions
    }

    /// Begins a session and ends the party's earlier one. A second machine
    /// with the same certificate is an alarm; the same machine that opens a
    /// new session before it closes the old one is not.
    pub fn begin(
        &self,
        party: &PartyId,
        facts: SessionFacts,
    ) -> (SessionGuard, watch::Receiver<Option<DrainReason>>) {
        let (end, ended) = watch::channel(None);
        let guard = SessionGuard {
            sessions: self.clone(),
            party: party.clone(),
            token: facts.token,
        };
        let instance_id = facts.instance_id;
        let earlier = self.lock().insert(party.clone(), Live { facts, end });
        if let Some(earlier) = earlier {
            let is_same_machine = earlier.facts.instance_id == instance_id;
            let reason = if is_same_machine {
                DrainReason::Reloaded
            } else {
                tracing::error!(
                    event = "two_instances_of_one_party",
                    %party,
                    earlier = %hex::encode(earlier.facts.instance_id),
                    later = %hex::encode(instance_id),
                    "two machines use this party's certificate: stop one of them"
                );
                DrainReason::Fenced
            };
            earlier.end.send_replace(Some(reason));
        }
        (guard, ended)
    }

    /// Ends the sessions of parties that may not have one any more.
    pub fn enforce(&self, registry: &Registry) {
        for (party, live) in self.lock().iter() {
            if let Some(why) = forbidden(party, &live.facts, registry) {
                tracing::warn!(event = "session_revoked", %party, why);
                live.end.send_replace(Some(DrainReason::Revoked));
            }
        }
    }

    /// Asks every session to end.
    pub fn drain_all(&self, reason: DrainReason) {
        for live in self.lock().values() {
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
        self.lock()
            .get(party)
            .is_some_and(|live| live.facts.token != token)
    }

    /// How many are live.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PartyId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a party may not have this session; `None`: it may.
pub fn forbidden(
    party: &PartyId,
    facts: &SessionFacts,
    registry: &Registry,
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
    if registry.revoked_serials.contains(&facts.serial) {
        return Some("certificate revoked");
    }
    let is_known_fingerprint = registered
        .certificate_fingerprints
        .contains(&facts.fingerprint);
    if !facts.named && !is_known_fingerprint {
        return Some("certificate fingerprint not registered");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Party;

    fn party(id: &str) -> PartyId {
        PartyId::parse(id).unwrap()
    }

    fn facts(token: u8, instance: u8) -> SessionFacts {
        SessionFacts {
            token: SessionToken([token; 16]),
            instance_id: [instance; 16],
            serial: "0a".to_owned(),
            fingerprint: "ff".to_owned(),
            named: true,
        }
    }

    fn registry(enabled: bool) -> Registry {
        let mut registry = Registry::default();
        let id = party("pemda-33");
        registry.directory.parties.insert(
            id.clone(),
            Party {
                id,
                name: String::new(),
                mode: PartyMode::Stream,
                enabled,
                certificate_fingerprints: Vec::new(),
                observes_all: false,
                observes_institutions: Vec::new(),
            },
        );
        registry
    }

    /// Scenario: a second session of the same party, from the same machine and
    /// then from another one.
    /// Guarantee: the earlier one is told; only another machine is a fence.
    #[test]
    fn a_new_session_ends_the_old_one() {
        let sessions = Sessions::default();
        let (first, first_end) = sessions.begin(&party("pemda-33"), facts(1, 1));
        let (second, second_end) = sessions.begin(&party("pemda-33"), facts(2, 1));
        assert_eq!(*first_end.borrow(), Some(DrainReason::Reloaded));
        drop(first);
        assert_eq!(sessions.count(), 1, "the old guard leaves the new session");
        let (_third, _) = sessions.begin(&party("pemda-33"), facts(3, 9));
        assert_eq!(*second_end.borrow(), Some(DrainReason::Fenced));
        drop(second);
        assert_eq!(sessions.count(), 1);
    }

    /// Scenario: a live session, then the party is disabled, or its
    /// certificate revoked.
    /// Guarantee: the session is told to end, and one that may stay is not.
    #[test]
    fn taking_the_right_away_ends_the_session() {
        let sessions = Sessions::default();
        let (_guard, end) = sessions.begin(&party("pemda-33"), facts(1, 1));
        sessions.enforce(&registry(true));
        assert_eq!(*end.borrow(), None);
        let mut revoked = registry(true);
        revoked.revoked_serials.insert("0a".to_owned());
        assert_eq!(
            forbidden(&party("pemda-33"), &facts(1, 1), &revoked),
            Some("certificate revoked")
        );
        sessions.enforce(&registry(false));
        assert_eq!(*end.borrow(), Some(DrainReason::Revoked));
    }
}
