//! One word for how a party stands, since when, and what to do.

use crate::{
    domain::{Micros, PartyId},
    link::{LinkState, Phase},
    store::Heads,
    wire::v1::Verdict,
};

/// Waiting for longer than this is "behind".
const BEHIND_MICROS: i64 = 60_000_000;
/// Connected, and an entry waits for longer than this: "stalled".
const STALLED_MICROS: i64 = 300_000_000;
/// Connected, and no byte for longer than this: "silent".
const SILENT_MICROS: i64 = 45_000_000;

/// A verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The word.
    pub verdict: Verdict,
    /// Since when.
    pub since: Option<Micros>,
    /// Why, and what to do.
    pub explanation: String,
}

/// Judges a party by its link and its journals.
pub fn judge(link: Option<&LinkState>, heads: &Heads, is_hub: bool, now: Micros) -> Judged {
    let Some(link) = link else {
        return Judged {
            verdict: Verdict::NoLink,
            since: None,
            explanation: "keeps no link (unary, or behind this door): it calls when it wants to, so whether it does well can't be seen from here".to_owned(),
        };
    };
    let told = |verdict, since, explanation: String| Judged {
        verdict,
        since: Some(since),
        explanation,
    };
    match &link.phase {
        Phase::NeverConnected | Phase::Connecting => told(
            Verdict::NeverConnected,
            link.since,
            if is_hub {
                "has not connected since the hub started: is its node running, and is the hub's address right there?".to_owned()
            } else {
                "dialling the hub for the first time".to_owned()
            },
        ),
        Phase::Disconnected { why } => told(
            Verdict::Disconnected,
            link.since,
            format!("{why}; {}", until_it_is_back(heads, is_hub, now)),
        ),
        Phase::Refused { reason, why } => told(Verdict::Refused, link.since, named(reason, why)),
        Phase::Mismatch { reason, why } => told(Verdict::Mismatch, link.since, named(reason, why)),
        Phase::Connected => judge_connected(link, heads, now),
    }
}

/// What is done about a lost link, and what waits for it meanwhile.
fn until_it_is_back(heads: &Heads, is_hub: bool, now: Micros) -> String {
    if is_hub {
        return "its node tries again by itself: if it stays away, is it running, and is its line good?"
            .to_owned();
    }
    let waiting = heads.submissions.position - heads.submissions_acknowledged.position;
    let waits = match heads.oldest_waiting {
        Some(oldest) if waiting > 0 => format!(
            ": {waiting} wait here, the oldest for {} s, and go out then",
            (now.0 - oldest.0).max(0) / 1_000_000
        ),
        _ => String::new(),
    };
    format!("this node tries again by itself, at most a minute apart{waits}")
}

/// Reason and words; a peer's own words begin with the reason already.
fn named(reason: &str, why: &str) -> String {
    if why.starts_with(reason) {
        why.to_owned()
    } else {
        format!("{reason}: {why}")
    }
}

/// The verdict on a party that the hub's operator has disabled, whatever its
/// link says: it can't connect, so "healthy" would be a lie.
pub(super) fn disabled(link: Option<&LinkState>, party: &PartyId) -> Judged {
    Judged {
        verdict: Verdict::Disabled,
        since: link.map(|link| link.since).filter(|since| since.0 > 0),
        explanation: format!(
            "disabled at the hub: it can't connect; `jembatan parties enable {party}` lets it in again"
        ),
    }
}

/// Letters that only this node's operator can settle: a person must look, but
/// nothing stands still, so whatever stops the link goes before.
pub(super) fn with_letters(judged: Judged, parked: u64, unread: u64) -> Judged {
    let is_calm = matches!(
        judged.verdict,
        Verdict::Healthy | Verdict::Behind | Verdict::NoLink
    );
    let why = match (parked, unread) {
        _ if !is_calm => return judged,
        (0, 0) => return judged,
        (0, unread) => format!(
            "UNREADABLE: {unread} deliveries can't be read by this version: update this node, then `jembatan dead-letters retry --all`"
        ),
        (parked, _) => format!(
            "PARKED: deciding {parked} submissions failed: look at `jembatan dead-letters list --config FILE`, then `retry` or `drop`"
        ),
    };
    Judged {
        verdict: Verdict::Attention,
        explanation: why,
        ..judged
    }
}

fn judge_connected(link: &LinkState, heads: &Heads, now: Micros) -> Judged {
    let silent_since = link.last_heard.unwrap_or(link.since);
    if now.0 - silent_since.0 > SILENT_MICROS {
        return Judged {
            verdict: Verdict::Silent,
            since: Some(silent_since),
            explanation: "connected, but nothing is heard: the line or the peer hangs".to_owned(),
        };
    }
    if let Some(alarm) = link.alarm_at(now) {
        return Judged {
            verdict: Verdict::Attention,
            since: Some(link.since),
            explanation: format!("{}: {}", alarm.reason, alarm.why),
        };
    }
    if let Some(oldest) = heads.oldest_waiting {
        let waits = now.0 - oldest.0.max(link.since.0);
        let seconds = (now.0 - oldest.0) / 1_000_000;
        if waits > STALLED_MICROS {
            return Judged {
                verdict: Verdict::Stalled,
                since: Some(oldest),
                explanation: format!(
                    "connected, but an entry has waited for {seconds} s: look at the peer's store and log"
                ),
            };
        }
        if now.0 - oldest.0 > BEHIND_MICROS {
            return Judged {
                verdict: Verdict::Behind,
                since: Some(oldest),
                explanation: format!("catching up: the oldest entry has waited for {seconds} s"),
            };
        }
    }
    Judged {
        verdict: Verdict::Healthy,
        since: Some(link.since),
        explanation: "connected and up to date".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Direction, Place};

    fn heads(oldest: Option<i64>) -> Heads {
        let party = PartyId::parse("pemda-33").unwrap();
        let root = |direction| Place::root(&party, direction, 1);
        Heads {
            epoch: 1,
            submissions: root(Direction::Submissions),
            submissions_acknowledged: root(Direction::Submissions),
            deliveries: 0,
            deliveries_acknowledged: root(Direction::Deliveries),
            consumed_through: 0,
            oldest_waiting: oldest.map(Micros),
            copy_wanted: None,
        }
    }

    /// Scenario: a party that keeps no link, and one whose link is up in the
    /// very moment in which it is disabled.
    /// Guarantee: neither is healthy, and the second is told how to come back.
    #[test]
    fn no_link_and_disabled_are_not_healthy() {
        let verdict = judge(None, &heads(None), true, Micros(0)).verdict;
        assert_eq!(verdict, Verdict::NoLink);
        let mut link = LinkState::new(Micros(0));
        link.enter(Phase::Connected, Micros(1_000_000));
        let party = PartyId::parse("pemda-33").unwrap();
        let judged = disabled(Some(&link), &party);
        assert_eq!(judged.verdict, Verdict::Disabled);
        assert_eq!(judged.since, Some(Micros(1_000_000)));
        assert!(judged.explanation.contains("parties enable pemda-33"));
    }

    /// Scenario: a connected link with an alarm, until the alarm's time is over.
    /// Guarantee: it is not healthy meanwhile, and names the alarm.
    #[test]
    fn an_alarm_is_not_healthy() {
        let mut link = LinkState::new(Micros(0));
        link.enter(Phase::Connected, Micros(0));
        link.last_heard = Some(Micros(0));
        link.alarm = Some(crate::link::LinkAlarm {
            reason: "TWO_INSTANCES".to_owned(),
            why: "stop one".to_owned(),
            until: Some(Micros(10_000_000)),
        });
        let at = |now| judge(Some(&link), &heads(None), true, Micros(now));
        let found = at(9_000_000);
        assert_eq!(found.verdict, Verdict::Attention);
        assert_eq!(found.explanation, "TWO_INSTANCES: stop one");
        assert_eq!(at(10_000_000).verdict, Verdict::Healthy);
    }

    /// Scenario: a healthy link, one without a link, and one that is cut, each
    /// with something parked, or something that could not be read.
    /// Guarantee: the first two want a person and name the command; of the third
    /// its line goes first. Without letters nothing changes.
    #[test]
    fn letters_want_a_person() {
        let judged = |verdict| Judged {
            verdict,
            since: Some(Micros(7)),
            explanation: "as it was".to_owned(),
        };
        for verdict in [Verdict::Healthy, Verdict::NoLink] {
            let found = with_letters(judged(verdict), 2, 0);
            assert_eq!(found.verdict, Verdict::Attention);
            assert!(found.explanation.contains("PARKED: deciding 2"));
            let found = with_letters(judged(verdict), 0, 3);
            assert!(found.explanation.contains("dead-letters retry"));
            assert_eq!(with_letters(judged(verdict), 0, 0), judged(verdict));
        }
        let cut = judged(Verdict::Disconnected);
        assert_eq!(with_letters(cut.clone(), 2, 3), cut);
    }

    /// Scenario: a lost link, seen from the node, where nothing or three entries wait,
    /// and from the hub.
    /// Guarantee: why, since when, what waits and what is done about it.
    #[test]
    fn a_lost_link_says_what_waits_and_what_to_do() {
        let mut link = LinkState::new(Micros(0));
        let why = "the hub at hub:1 can't be reached".to_owned();
        link.enter(Phase::Disconnected { why }, Micros(7_000_000));
        let now = Micros(90_000_000);
        let calm = judge(Some(&link), &heads(None), false, now);
        assert_eq!(
            (calm.verdict, calm.since),
            (Verdict::Disconnected, Some(Micros(7_000_000)))
        );
        assert!(
            calm.explanation
                .starts_with("the hub at hub:1 can't be reached; ")
        );
        assert!(
            calm.explanation
                .ends_with("by itself, at most a minute apart")
        );
        let mut waiting = heads(Some(30_000_000));
        waiting.submissions.position = 3;
        let told = judge(Some(&link), &waiting, false, now).explanation;
        assert!(told.contains("3 wait here, the oldest for 60 s"), "{told}");
        let told = judge(Some(&link), &waiting, true, now).explanation;
        assert!(
            told.contains("is it running, and is its line good?"),
            "{told}"
        );
    }

    /// Scenario: a link that says "connected" while nothing is heard, or while
    /// an entry waits and waits.
    /// Guarantee: it turns red by itself, with the time since when.
    #[test]
    fn a_silent_or_stalled_link_is_never_healthy() {
        let mut link = LinkState::new(Micros(0));
        link.enter(Phase::Connected, Micros(1_000_000));
        link.last_heard = Some(Micros(10_000_000));
        let at = |seconds: i64| Micros(seconds * 1_000_000);
        let verdict = |link: &LinkState, oldest, now| judge(Some(link), &heads(oldest), true, now);
        assert_eq!(verdict(&link, None, at(20)).verdict, Verdict::Healthy);
        assert_eq!(verdict(&link, None, at(56)).verdict, Verdict::Silent);
        link.last_heard = Some(at(500));
        let waited = Some(2_000_000);
        assert_eq!(verdict(&link, waited, at(500)).verdict, Verdict::Stalled);
        link.last_heard = Some(at(70));
        let behind = verdict(&link, waited, at(70));
        assert_eq!(behind.verdict, Verdict::Behind);
        assert_eq!(behind.since, Some(Micros(2_000_000)));
    }
}
