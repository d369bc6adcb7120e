//! The rules of opening. The node names where it stands, the hub answers with
//! its own chains at those places, and the node judges: nothing is guessed.

use crate::domain::{Digest, PartyId};

use super::{Direction, Opened, Place};

/// Where a node stands when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalState {
    /// Whose journals.
    pub party: PartyId,
    /// The node's epoch; 0: it has never met its hub.
    pub epoch: u64,
    /// Submissions: durably known to be acknowledged (A).
    pub acknowledged: Place,
    /// Submissions: head (N).
    pub head: Place,
    /// Deliveries: held here (R).
    pub received: Place,
}

/// What the node does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The hub has less than it acknowledged or delivered: it went back. The
    /// link stops; nobody resends; the hub's operator has to act.
    HubBehind(String),
    /// The journals differ where both sides had agreed: the link stops.
    Forked(String),
    /// The hub began a new epoch, or this is the first meeting. The node enters
    /// it, re-appends what comes after this position of the old epoch, and
    /// opens again: the hub's answer was about chains of the old epoch.
    EnterEpoch {
        /// The epoch in force.
        epoch: u64,
        /// Own submissions after this position of the old epoch go again.
        resend_after: u64,
    },
    /// Rules 3 and 4: go on.
    Continue(Plan),
}

/// How to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The hub holds submissions through here; sending goes on behind it.
    pub hub_head: Place,
    /// The node lacks some of them: it takes the hub's head over first.
    pub adopt: Option<Adopt>,
}

/// The node takes the hub's head over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopt {
    /// Own entries through here are the hub's too; later ones are set aside.
    pub keep_through: u64,
}

/// The position at which the node must look its own chain up before it can
/// judge; `None` if what it has at hand is enough.
pub fn needs_chain_at(local: &LocalState, opened: &Opened) -> Option<u64> {
    let wanted = if opened.epoch == local.epoch {
        if opened.head.position < local.acknowledged.position {
            return None;
        }
        local.head.position.min(opened.head.position)
    } else {
        opened
            .previous_epoch
            .as_ref()
            .filter(|previous| previous.epoch == local.epoch)
            .map(|previous| previous.submissions.position.min(local.head.position))?
    };
    known_chain(local, wanted).is_none().then_some(wanted)
}

/// Judges the hub's answer. `own_chain` is the chain at [`needs_chain_at`].
pub fn judge(local: &LocalState, own_chain: Option<Digest>, opened: &Opened) -> Verdict {
    if opened.epoch != local.epoch {
        return judge_epoch(local, own_chain, opened);
    }
    if opened.head.position < local.acknowledged.position {
        return Verdict::HubBehind(format!(
            "the hub holds {} of our submissions but had acknowledged {}: it was restored from an older state",
            opened.head.position, local.acknowledged.position
        ));
    }
    match opened.at_acknowledged {
        Some(place) if place == local.acknowledged => {}
        _ => {
            return Verdict::Forked(format!(
                "at submission {}, which the hub had acknowledged, hub and node hold different entries",
                local.acknowledged.position
            ));
        }
    }
    if opened.deliveries_head < local.received.position {
        return Verdict::HubBehind(format!(
            "the hub has written {} deliveries but we hold {}: it was restored from an older state",
            opened.deliveries_head, local.received.position
        ));
    }
    match opened.at_received {
        Some(place) if place == local.received => {}
        _ => {
            return Verdict::Forked(format!(
                "at delivery {}, which we hold, hub and node hold different entries",
                local.received.position
            ));
        }
    }
    let shorter = local.head.position.min(opened.head.position);
    let is_prefix = known_chain(local, shorter).or(own_chain) == Some(opened.at_shorter_head.chain)
        && opened.at_shorter_head.position == shorter;
    let adopt = if is_prefix {
        // Rule 3: one is a prefix of the other.
        (opened.head.position > local.head.position).then_some(Adopt {
            keep_through: local.head.position,
        })
    } else {
        // Rule 4: the hub is right beyond A.
        Some(Adopt {
            keep_through: local.acknowledged.position,
        })
    };
    Verdict::Continue(Plan {
        hub_head: opened.head,
        adopt,
    })
}

fn judge_epoch(local: &LocalState, own_chain: Option<Digest>, opened: &Opened) -> Verdict {
    if local.epoch == 0 {
        return Verdict::EnterEpoch {
            epoch: opened.epoch,
            resend_after: 0,
        };
    }
    if opened.epoch < local.epoch {
        return Verdict::HubBehind(format!(
            "the hub is in epoch {}, which is older than ours ({}): it was restored from an older state",
            opened.epoch, local.epoch
        ));
    }
    // Whatever can't be proved to be at the hub goes again, all of it: the hub's
    // permanent dedup answers what it has.
    let mut resend_after = 0;
    let previous = opened.previous_epoch.as_ref();
    if let Some(previous) = previous.filter(|previous| previous.epoch == local.epoch) {
        let ended = previous.submissions;
        if ended.position <= local.head.position {
            // A stretch that is still to be copied has no chain: no proof.
            match known_chain(local, ended.position).or(own_chain) {
                Some(own) if own == ended.chain => resend_after = ended.position,
                Some(_) if ended.position <= local.acknowledged.position => {
                    return Verdict::Forked(format!(
                        "the epoch that ended differs: at submission {}, which the hub had acknowledged, hub and node hold different entries",
                        ended.position
                    ));
                }
                _ => {}
            }
        }
    }
    Verdict::EnterEpoch {
        epoch: opened.epoch,
        resend_after,
    }
}

fn known_chain(local: &LocalState, position: u64) -> Option<Digest> {
    if position == 0 {
        let root = Place::root(&local.party, Direction::Submissions, local.epoch);
        return Some(root.chain);
    }
    [local.head, local.acknowledged]
        .into_iter()
        .find(|place| place.position == position)
        .map(|place| place.chain)
}

/// What the hub finds when it looks at a node's `Open`; the same two alarms,
/// so that both sides turn red.
pub fn hub_alarm(open: &super::Open, opened: &Opened) -> Option<(&'static str, String)> {
    if open.epoch > opened.epoch {
        return Some((
            "HUB_BEHIND",
            format!(
                "the node is in epoch {}, which this hub has never begun: it is in epoch {}",
                open.epoch, opened.epoch
            ),
        ));
    }
    if open.epoch < opened.epoch {
        return None;
    }
    if opened.head.position < open.acknowledged.position
        || opened.deliveries_head < open.received.position
    {
        return Some((
            "HUB_BEHIND",
            format!(
                "the node knows {} submissions as acknowledged and holds {} deliveries; this hub has {} and {}",
                open.acknowledged.position,
                open.received.position,
                opened.head.position,
                opened.deliveries_head
            ),
        ));
    }
    if opened.at_acknowledged != Some(open.acknowledged)
        || opened.at_received != Some(open.received)
    {
        return Some((
            "JOURNAL_FORKED",
            "hub and node hold different entries where they had agreed".to_owned(),
        ));
    }
    None
}
