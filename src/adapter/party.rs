//! One party's link: dial, run, wait, again; for ever.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    domain::{Micros, PartyId},
    exchange::{DrainReason, End, Retry, RetryCause},
    identity::{Material, TrustDomain},
    link::{LinkEnd, LinkState, NodeLink, Phase, run_node},
    runtime::{Clock, random_unit},
    store::{AdapterStore, StoreError},
    transport::{DialError, DialOptions, dial, explain},
};

/// What a party's link needs.
pub(super) struct PartyLink {
    pub(super) party: PartyId,
    pub(super) store: Arc<dyn AdapterStore>,
    pub(super) material: watch::Receiver<Arc<Material>>,
    pub(super) trust_domain: TrustDomain,
    pub(super) dial: DialOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Arc<watch::Sender<LinkState>>,
}

/// What to do after an end.
struct Next {
    phase: Phase,
    cause: RetryCause,
}

impl PartyLink {
    /// Runs until `stop`; then the session is drained first.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut retry = Retry::new();
        loop {
            let began = tokio::time::Instant::now();
            let next = self.once(&stop).await;
            if stop.is_cancelled() {
                self.enter(Phase::Disconnected {
                    why: "this node is stopping".to_owned(),
                });
                return;
            }
            let lived = began.elapsed();
            let Some(Next { phase, cause }) = next else {
                continue;
            };
            self.enter(phase);
            let wait = retry.delay(cause, lived, random_unit());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                // New certificates may be what was missing.
                _ = self.material.changed() => {}
            }
        }
    }

    /// Dials and runs one session; `None`: again at once.
    async fn once(&mut self, stop: &CancellationToken) -> Option<Next> {
        let material = self.material.borrow_and_update().clone();
        let is_first = matches!(self.state.borrow().phase, Phase::NeverConnected);
        if is_first {
            self.enter(Phase::Connecting);
        }
        let dialed = tokio::select! {
            () = stop.cancelled() => return None,
            dialed = dial(&self.dial, &material, &self.trust_domain) => dialed,
        };
        let dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return Some(self.refused(error)),
        };
        self.state.send_modify(|state| {
            state.peer_certificate_expires_at = Some(dialed.hub.not_after);
        });
        let (tell, told) = watch::channel(None);
        let link = NodeLink {
            party: self.party.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            stop: told,
            state: self.state.clone(),
            certificate_expires_at: Some(material.identity().not_after),
        };
        let session = run_node(link, dialed.channel);
        tokio::pin!(session);
        let mut material = self.material.clone();
        let mut is_told = false;
        let end = loop {
            tokio::select! {
                end = &mut session => break end,
                () = stop.cancelled(), if !is_told => {
                    is_told = true;
                    tell.send_replace(Some(DrainReason::Stopping));
                }
                _ = material.changed(), if !is_told => {
                    is_told = true;
                    tell.send_replace(Some(DrainReason::Reloaded));
                }
            }
        };
        self.ended(end)
    }

    fn enter(&self, phase: Phase) {
        let now = Micros(self.clock.now_micros());
        self.state.send_modify(|state| state.enter(phase, now));
    }

    fn refused(&self, error: DialError) -> Next {
        let DialError {
            reason,
            why,
            needs_a_person,
        } = error;
        if needs_a_person {
            tracing::error!(event = "link_refused", party = %self.party, reason, why);
            return Next {
                phase: Phase::Refused {
                    reason: reason.to_owned(),
                    why,
                },
                cause: RetryCause::Refused,
            };
        }
        tracing::warn!(event = "link_unreachable", party = %self.party, reason, why);
        Next {
            phase: Phase::Disconnected { why },
            cause: RetryCause::Lost,
        }
    }

    fn ended(&self, end: LinkEnd) -> Option<Next> {
        let lost = |why: String| {
            tracing::warn!(event = "link_lost", party = %self.party, why);
            Some(Next {
                phase: Phase::Disconnected { why },
                cause: RetryCause::Lost,
            })
        };
        match end {
            LinkEnd::Reopen => None,
            LinkEnd::Session(End::Mismatch(why)) => {
                tracing::warn!(event = "link_reopens", party = %self.party, why);
                Some(Next {
                    phase: Phase::Disconnected { why },
                    cause: RetryCause::Asked(Duration::from_millis(100)),
                })
            }
            LinkEnd::Session(End::Drained(drain)) => {
                let why = format!("the hub ended the session: {:?}", drain.reason);
                tracing::info!(event = "link_drained", party = %self.party, why);
                let cause = match drain.reason {
                    DrainReason::Fenced => RetryCause::Fenced,
                    _ => RetryCause::Asked(Duration::from_millis(u64::from(drain.retry_after_ms))),
                };
                Some(Next {
                    phase: Phase::Disconnected { why },
                    cause,
                })
            }
            LinkEnd::Session(End::DrainSent(drain)) => {
                tracing::info!(event = "link_drained", party = %self.party, reason = ?drain.reason);
                None
            }
            LinkEnd::Session(End::Silent) => lost("nothing was heard from the hub".to_owned()),
            LinkEnd::Session(End::Violation(violation)) => lost(violation.to_string()),
            LinkEnd::Mismatch { reason, why } => Some(self.mismatch(reason, why)),
            LinkEnd::Status(status) => Some(self.status(&status)),
            LinkEnd::Closed => lost("the hub closed the connection".to_owned()),
            LinkEnd::Broken(why) => lost(why),
            LinkEnd::Store(StoreError::Mismatch(why)) => lost(why),
            LinkEnd::Store(error) => {
                tracing::error!(event = "link_store_error", party = %self.party, %error);
                lost(format!("this node's store: {error}"))
            }
        }
    }

    fn mismatch(&self, reason: &str, why: String) -> Next {
        tracing::error!(event = "link_mismatch", party = %self.party, reason, why);
        Next {
            phase: Phase::Mismatch {
                reason: reason.to_owned(),
                why,
            },
            cause: RetryCause::Refused,
        }
    }

    fn status(&self, status: &Status) -> Next {
        if let Some(error) = explain(status) {
            return self.refused(error);
        }
        let details = status.get_error_details();
        let reason = details
            .error_info()
            .map_or_else(String::new, |info| info.reason.clone());
        let asked = details.retry_info().and_then(|info| info.retry_delay);
        match (status.code(), reason.as_str()) {
            (Code::FailedPrecondition, "HUB_BEHIND" | "JOURNAL_FORKED") => {
                self.mismatch(&reason, status.message().to_owned())
            }
            (_, "SESSION_FENCED") => Next {
                phase: Phase::Disconnected {
                    why: "another instance of this party took over: is there a second node with this certificate?".to_owned(),
                },
                cause: RetryCause::Fenced,
            },
            (Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition, _) => {
                self.refused(DialError {
                    reason: "PARTY_NOT_REGISTERED",
                    why: status.message().to_owned(),
                    needs_a_person: true,
                })
            }
            _ => {
                let why = format!("the link ended: {}", status.message());
                tracing::warn!(event = "link_lost", party = %self.party, code = ?status.code(), why);
                Next {
                    phase: Phase::Disconnected { why },
                    cause: asked.map_or(RetryCause::Lost, RetryCause::Asked),
                }
            }
        }
    }
}
