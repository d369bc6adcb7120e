//! What the end of an attempt or of a session means: what is shown, what the
//! operator is told, and when the link comes back.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    domain::PartyId,
    exchange::{Drain, DrainReason, End, RetryCause},
    link::{LinkEnd, Phase},
    store::StoreError,
    transport::{DialError, LastWords},
};

/// Whoever is drained by a hub of this version is asked to wait for this long,
/// whatever the reason: no wish to be spared. More than that is one.
const USUAL_WAIT: Duration = Duration::from_secs(1);

/// What to do after an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) phase: Phase,
    pub(super) cause: RetryCause,
}

impl Next {
    pub(super) fn lost(why: &str) -> Self {
        Self {
            phase: Phase::Disconnected {
                why: why.to_owned(),
            },
            cause: RetryCause::Lost,
        }
    }

    fn refused(party: &PartyId, reason: &str, why: String) -> Self {
        tracing::error!(event = "link_refused", %party, reason, why);
        Self {
            phase: Phase::Refused {
                reason: reason.to_owned(),
                why,
            },
            cause: RetryCause::Refused,
        }
    }

    fn mismatch(party: &PartyId, reason: &str, why: String) -> Self {
        tracing::error!(event = "link_mismatch", %party, reason, why);
        Self {
            phase: Phase::Mismatch {
                reason: reason.to_owned(),
                why,
            },
            cause: RetryCause::Refused,
        }
    }

    fn fenced(party: &PartyId) -> Self {
        let reason = "TWO_INSTANCES";
        let why = "another machine opened the link with this party's certificate, and the hub took that one: stop one of the two (a copied virtual machine, a restored backup that runs beside the original); this one tries again after a minute".to_owned();
        tracing::error!(event = "two_instances_of_one_party", %party, reason, why);
        Self {
            phase: Phase::Refused {
                reason: reason.to_owned(),
                why,
            },
            cause: RetryCause::Fenced,
        }
    }

    /// For people.
    pub(super) fn why(&self) -> String {
        match &self.phase {
            Phase::Refused { reason, why } | Phase::Mismatch { reason, why } => {
                format!("{reason}: {why}")
            }
            Phase::Disconnected { why } => why.clone(),
            Phase::NeverConnected | Phase::Connecting | Phase::Connected => String::new(),
        }
    }
}

/// There is no connection.
pub(super) fn of_dial(party: &PartyId, error: DialError) -> Next {
    let DialError {
        reason,
        why,
        needs_a_person,
    } = error;
    if needs_a_person {
        return Next::refused(party, reason, why);
    }
    tracing::warn!(event = "link_unreachable", %party, reason, why);
    Next::lost(&why)
}

/// A session ended, or did not begin; `None`: again at once.
pub(super) fn of_end(party: &PartyId, end: LinkEnd, last_words: &LastWords) -> Option<Next> {
    let is_broken = matches!(
        end,
        LinkEnd::Status(_) | LinkEnd::Closed | LinkEnd::Broken(_)
    );
    if is_broken && let Some(error) = last_words.explain() {
        return Some(of_dial(party, error));
    }
    let lost = |why: String| {
        tracing::warn!(event = "link_lost", %party, why);
        Some(Next::lost(&why))
    };
    match end {
        LinkEnd::Reopen => None,
        LinkEnd::Session(End::Mismatch(why)) => {
            tracing::warn!(event = "link_reopens", %party, why);
            Some(Next {
                phase: Phase::Disconnected { why },
                cause: RetryCause::Asked(Duration::from_millis(100)),
            })
        }
        LinkEnd::Session(End::Drained(drain)) => Some(of_drain(party, drain)),
        LinkEnd::Session(End::DrainSent(drain)) => {
            let why = format!("this node ended the session: {:?}", drain.reason);
            tracing::info!(event = "link_drained", %party, why);
            Some(Next {
                phase: Phase::Disconnected { why },
                cause: RetryCause::Renew,
            })
        }
        LinkEnd::Session(End::Silent) => lost("nothing was heard from the hub".to_owned()),
        LinkEnd::Session(End::Violation(violation)) => lost(violation.to_string()),
        LinkEnd::Mismatch { reason, why } => Some(Next::mismatch(party, reason, why)),
        LinkEnd::Status(status) => Some(of_status(party, &status)),
        LinkEnd::Closed => lost("the hub closed the connection".to_owned()),
        LinkEnd::Broken(why) => lost(why),
        LinkEnd::Store(StoreError::Mismatch(why)) => lost(why),
        LinkEnd::Store(error) => {
            tracing::error!(event = "link_store_error", %party, %error);
            lost(format!("this node's store: {error}"))
        }
    }
}

fn of_drain(party: &PartyId, drain: Drain) -> Next {
    let asked = Duration::from_millis(u64::from(drain.retry_after_ms));
    let why = format!("the hub ended the session: {:?}", drain.reason);
    let cause = match drain.reason {
        DrainReason::Fenced => return Next::fenced(party),
        DrainReason::Revoked => {
            // The next attempt says which of the two it is.
            let why = "the hub took this party's right away: it was disabled, or its certificate revoked; ask the hub's operator".to_owned();
            return Next {
                cause: RetryCause::Lost,
                ..Next::refused(party, "REVOKED", why)
            };
        }
        DrainReason::Age | DrainReason::CertificateExpires | DrainReason::Reloaded
            if asked <= USUAL_WAIT =>
        {
            RetryCause::Renew
        }
        _ => RetryCause::Asked(asked),
    };
    tracing::info!(event = "link_drained", %party, why);
    Next {
        phase: Phase::Disconnected { why },
        cause,
    }
}

fn of_status(party: &PartyId, status: &Status) -> Next {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let asked = details.retry_info().and_then(|info| info.retry_delay);
    let told = status.message().to_owned();
    match (status.code(), reason) {
        (Code::FailedPrecondition, "HUB_BEHIND" | "JOURNAL_FORKED") => {
            Next::mismatch(party, reason, told)
        }
        (_, "SESSION_FENCED") => Next::fenced(party),
        (Code::FailedPrecondition, "UNSUPPORTED_VERSION" | "SOFTWARE_TOO_OLD") => Next::refused(
            party,
            reason,
            format!(
                "{told}: update this node's software, or ask the hub's operator; what waits here stays here and goes out afterwards"
            ),
        ),
        (Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition, reason) => {
            // A hub of a later version may refuse for reasons of its own.
            let reason = if reason.is_empty() {
                "HUB_REFUSED"
            } else {
                reason
            };
            Next::refused(party, reason, told)
        }
        _ => {
            let why = format!("the link ended: {told}");
            tracing::warn!(event = "link_lost", %party, code = ?status.code(), why);
            Next {
                phase: Phase::Disconnected { why },
                cause: asked.map_or(RetryCause::Lost, RetryCause::Asked),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn party() -> PartyId {
        PartyId::parse("pemda-33").unwrap()
    }

    fn drained(reason: DrainReason, retry_after_ms: u32) -> Next {
        let drain = Drain {
            reason,
            retry_after_ms,
        };
        let end = LinkEnd::Session(End::Drained(drain));
        of_end(&party(), end, &LastWords::default()).unwrap()
    }

    fn told(code: Code, reason: &str) -> Next {
        let mut details = ErrorDetails::new();
        if !reason.is_empty() {
            details.set_error_info(reason, "jembatan", std::collections::HashMap::new());
        }
        let status = Status::with_error_details(code, "the hub's words", details);
        let end = LinkEnd::Status(Box::new(status));
        of_end(&party(), end, &LastWords::default()).unwrap()
    }

    /// Scenario: the hub ends a session in good order, for each reason.
    /// Guarantee: what renews itself comes back at once, unless the hub asks
    /// to be spared; a stopping hub is given its time; the loser of two
    /// machines waits for a minute and alarms.
    #[test]
    fn each_drain_has_its_time() {
        for reason in [
            DrainReason::Age,
            DrainReason::Reloaded,
            DrainReason::CertificateExpires,
        ] {
            assert_eq!(drained(reason, 0).cause, RetryCause::Renew);
            assert_eq!(drained(reason, 1_000).cause, RetryCause::Renew);
            let spared = RetryCause::Asked(Duration::from_secs(20));
            assert_eq!(drained(reason, 20_000).cause, spared);
        }
        let stopping = RetryCause::Asked(Duration::from_secs(1));
        assert_eq!(drained(DrainReason::Stopping, 1_000).cause, stopping);
        let fenced = drained(DrainReason::Fenced, 60_000);
        assert_eq!(fenced.cause, RetryCause::Fenced);
        assert!(fenced.why().starts_with("TWO_INSTANCES: "), "{fenced:?}");
        let revoked = drained(DrainReason::Revoked, 1_000);
        assert!(revoked.why().contains("ask the hub's operator"));
    }

    /// Scenario: the hub refuses, with each reason that there is, one that a
    /// later version may have, and none.
    /// Guarantee: each is shown under its own name; only what the hub calls so
    /// is "not registered".
    #[test]
    fn a_refusal_keeps_its_reason() {
        let refused = |code, reason: &str, shown: &str| {
            let next = told(code, reason);
            assert_eq!(next.cause, RetryCause::Refused);
            let Phase::Refused { reason, why } = next.phase else {
                panic!("{:?}", next.phase)
            };
            assert_eq!(reason, shown);
            assert!(why.contains("the hub's words"), "{why}");
            why
        };
        let precondition = Code::FailedPrecondition;
        refused(
            Code::PermissionDenied,
            "PARTY_NOT_REGISTERED",
            "PARTY_NOT_REGISTERED",
        );
        for reason in ["UNSUPPORTED_VERSION", "SOFTWARE_TOO_OLD"] {
            let version = refused(precondition, reason, reason);
            assert!(version.contains("what waits here stays here"), "{version}");
        }
        refused(precondition, "LICENCE_ENDED", "LICENCE_ENDED");
        refused(precondition, "", "HUB_REFUSED");
        refused(Code::Unauthenticated, "", "HUB_REFUSED");
        for reason in ["HUB_BEHIND", "JOURNAL_FORKED"] {
            let phase = told(precondition, reason).phase;
            assert!(matches!(phase, Phase::Mismatch { .. }), "{phase:?}");
        }
        assert_eq!(
            told(Code::Aborted, "SESSION_FENCED").cause,
            RetryCause::Fenced
        );
        assert_eq!(told(Code::Unavailable, "").cause, RetryCause::Lost);
    }
}
