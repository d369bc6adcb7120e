//! Who may have a session, and which of two.

use super::*;
use crate::{
    domain::Party,
    hub::testing::{Lab, now, party},
};

struct World {
    lab: Lab,
    sessions: Sessions,
    identity: Arc<PeerIdentity>,
}

fn world() -> World {
    let lab = Lab::new();
    World {
        identity: Arc::new(lab.party("pemda-33")),
        sessions: Sessions::default(),
        lab,
    }
}

impl World {
    /// A session of a process (`incarnation`) over a data directory.
    fn begin(&self, instance: u8, incarnation: u8, seconds: i64) -> Result<Begun, TooEarly> {
        let facts = self.facts(instance, Some([incarnation; 16]));
        let at = Micros(seconds * 1_000_000);
        self.sessions.begin(&party("pemda-33"), facts, at)
    }

    fn facts(&self, instance: u8, incarnation: Option<[u8; 16]>) -> SessionFacts {
        SessionFacts {
            token: SessionToken(crate::runtime::random_bytes()),
            instance_id: [instance; 16],
            incarnation,
            identity: self.identity.clone(),
            named: true,
        }
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

/// Scenario: a process opens a session beside its old one; then another
/// machine, with a data directory of its own, opens one.
/// Guarantee: the first is no contest, and ends the old session kindly; the
/// second is one, and the loser is fenced and kept out for a minute, but not
/// for longer.
#[test]
fn another_machine_is_a_contest_the_same_one_is_not() {
    let world = world();
    let first = world.begin(1, 1, 0).unwrap();
    let second = world.begin(1, 1, 1).unwrap();
    assert_eq!(second.contest, None);
    assert_eq!(*first.end.borrow(), Some(DrainReason::Reloaded));
    drop(first);
    assert_eq!(
        world.sessions.count(),
        1,
        "the old guard leaves the new one"
    );
    let other = world.begin(9, 9, 2).unwrap();
    assert!(other.contest.unwrap().why.contains("two machines"));
    assert_eq!(*second.end.borrow(), Some(DrainReason::Fenced));
    let early = world.begin(1, 1, 30).unwrap_err();
    assert_eq!(early.wait, Duration::from_secs(32));
    assert_eq!(*other.end.borrow(), None, "the winner is left alone");
    let again = world.begin(1, 1, 63).unwrap();
    assert!(again.contest.is_some());
    assert_eq!(*other.end.borrow(), Some(DrainReason::Fenced));
}

/// Scenario: a machine is restarted again and again before its old sessions
/// are known to be dead; then a copy of its data directory runs beside it.
/// Guarantee: restarts are no contest; the copy is one as soon as the first
/// process comes back, and the copy is kept out.
#[test]
fn a_copy_of_a_data_directory_shows_when_the_first_comes_back() {
    let world = world();
    let mut kept = Vec::new();
    for start in 1..20 {
        let begun = world.begin(1, start, i64::from(start)).unwrap();
        assert_eq!(begun.contest, None, "start {start}");
        kept.push(begun);
    }
    let copy = world.begin(1, 99, 30).unwrap();
    assert_eq!(copy.contest, None, "it could be a restart");
    let back = world.begin(1, 19, 31).unwrap();
    assert!(back.contest.unwrap().why.contains("copy of one data"));
    assert_eq!(*copy.end.borrow(), Some(DrainReason::Fenced));
    assert!(world.begin(1, 99, 32).is_err());
}

/// Scenario: the winner of a contest is stopped, and the loser comes back
/// before its minute is over.
/// Guarantee: it is let in: nobody is there to be disturbed.
#[test]
fn a_loser_comes_back_when_the_winner_is_gone() {
    let world = world();
    let first = world.begin(1, 1, 0).unwrap();
    let winner = world.begin(2, 2, 1).unwrap();
    drop(first);
    drop(winner);
    assert_eq!(world.begin(1, 1, 5).unwrap().contest, None);
}

/// Scenario: nodes of older software, which say no incarnation.
/// Guarantee: a reconnect is no contest, another machine is.
#[test]
fn older_nodes_are_told_apart_by_their_data() {
    let world = world();
    let begin = |instance| {
        let facts = world.facts(instance, None);
        world.sessions.begin(&party("pemda-33"), facts, Micros(0))
    };
    let _first = begin(1).unwrap();
    let second = begin(1).unwrap();
    assert_eq!(second.contest, None);
    assert!(begin(2).unwrap().contest.is_some());
}

/// Scenario: a live session, then the party is disabled, or its certificate is
/// revoked by the hub's own list, or by its CA's.
/// Guarantee: the session is told to end each time, and one that may stay is
/// not, even if another certificate was revoked.
#[test]
fn taking_the_right_away_ends_the_session() {
    let serial = |world: &World| world.identity.serial.clone();
    let told = |change: &dyn Fn(&World) -> Registry| {
        let world = world();
        let begun = world.begin(1, 1, 0).unwrap();
        let registry = change(&world);
        world.sessions.enforce(&registry, &world.lab.hub());
        *begun.end.borrow()
    };
    assert_eq!(told(&|_| registry(true)), None);
    assert_eq!(told(&|_| registry(false)), Some(DrainReason::Revoked));
    assert_eq!(told(&|_| Registry::default()), Some(DrainReason::Revoked));
    let by_hub = |world: &World| {
        let mut revoked = registry(true);
        revoked.revoked_serials.insert(serial(world));
        revoked
    };
    assert_eq!(told(&by_hub), Some(DrainReason::Revoked));
    let by_ca = |world: &World| {
        world.lab.authority.revoke(&serial(world), now()).unwrap();
        registry(true)
    };
    assert_eq!(told(&by_ca), Some(DrainReason::Revoked));
    let another = |world: &World| {
        let other = world.lab.party("pemda-52").serial;
        world.lab.authority.revoke(&other, now()).unwrap();
        registry(true)
    };
    assert_eq!(told(&another), None);
}
