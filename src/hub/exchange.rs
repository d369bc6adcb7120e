//! The exchange service: one stream per party, judged at its beginning and at
//! every change of the registry.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::{Limits, Micros, MinimumVersion, PartyId, PartyMode},
    exchange::{DrainReason, End, Open},
    identity::Material,
    link::{
        Answer, HubLink, HubSession, LinkAlarm, LinkEnd, LinkState, OpenRefused, Phase,
        first_frame, open_hub,
    },
    runtime::{Clock, random_bytes, random_unit},
    store::{HubStore, Registry, SessionToken, StoreError},
    transport::PeerInfo,
    wire::v1::{self, exchange_service_server::ExchangeService},
};

use super::{
    Begun, Refused, SessionFacts, SessionGuard, Sessions, TWO_INSTANCES, forbidden,
    lifetime::Lifetime, minimum::is_too_old, peers::resolve,
};

/// How long a contest between two machines stands on the status page. The
/// loser comes back after 60 to 90 s, so a contest that goes on never leaves.
const CONTEST_SHOWN_MICROS: i64 = 900_000_000;

/// States of the links that have been since the hub started.
pub type Board =
    Arc<std::sync::Mutex<std::collections::HashMap<PartyId, Arc<watch::Sender<LinkState>>>>>;

/// The exchange service, and what it needs.
#[derive(Clone)]
pub struct Exchange {
    /// Where it reads and writes.
    pub store: Arc<dyn HubStore>,
    /// Who is inside.
    pub sessions: Sessions,
    /// Who may.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// The hub's certificate, and whose the CAs have revoked.
    pub material: watch::Receiver<Arc<Material>>,
    /// Announced to nodes.
    pub limits: Limits,
    /// Announced with each heartbeat.
    pub minimum_version: Option<MinimumVersion>,
    /// A session ends after so long.
    pub max_age: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
    /// The hub's clock.
    pub clock: Arc<dyn Clock>,
    /// How each link stands.
    pub board: Board,
}

type Responses = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExchangeService for Exchange {
    type ExchangeStream = Responses;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let peer = request
            .extensions()
            .get::<PeerInfo>()
            .cloned()
            .ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        let (party, named) = self.judge(&peer).map_err(|refused| {
            self.refused(&peer, refused);
            not_registered()
        })?;
        if !self.sessions.has_room(&party, self.max_sessions) {
            tracing::warn!(event = "sessions_full", %party, max_sessions = self.max_sessions);
            return Err(sessions_full());
        }
        let (answers, stream) = mpsc::channel(4);
        let this = self.clone();
        tokio::spawn(this.serve(party, named, peer, request.into_inner(), answers));
        let stream = ReceiverStream::new(stream).map(|answer| *answer);
        Ok(Response::new(Box::pin(stream)))
    }
}

type Answers = mpsc::Sender<Answer>;

/// A party that was let in.
struct LetIn {
    guard: SessionGuard,
    token: SessionToken,
    state: Arc<watch::Sender<LinkState>>,
    /// Its session, or why there is none after all.
    opened: Result<HubSession, LinkEnd>,
}

impl Exchange {
    async fn serve(
        self,
        party: PartyId,
        named: bool,
        peer: PeerInfo,
        inbound: Streaming<v1::ExchangeRequest>,
        answers: Answers,
    ) {
        // In a box of its own, which is gone when the session begins: a
        // thousand parties are idle for most of their lives.
        let letting_in = Box::pin(self.let_in(&party, named, &peer, inbound, &answers));
        let Some(LetIn {
            guard,
            token,
            state,
            opened,
        }) = letting_in.await
        else {
            return;
        };
        let end = match opened {
            Ok(session) => session.run().await,
            Err(end) => end,
        };
        drop(guard);
        self.ended(&party, token, &state, &end, &peer);
        if let Some(status) = status_of(&end) {
            let _ = answers.send(Box::new(Err(status))).await;
        }
    }

    /// Reads what the party opens with, judges it, and answers; `None`: it was
    /// refused, and told so.
    async fn let_in(
        &self,
        party: &PartyId,
        named: bool,
        peer: &PeerInfo,
        mut inbound: Streaming<v1::ExchangeRequest>,
        answers: &Answers,
    ) -> Option<LetIn> {
        let opening = first_frame(&mut inbound).await;
        let open = match opening.and_then(|open| self.check_software(open)) {
            Ok(open) => open,
            Err(refused) => {
                if let Some(why) = &refused.needs_a_person {
                    let shown = Refused {
                        party: Some(party.clone()),
                        reason: refused.reason,
                        why: why.clone(),
                    };
                    self.refused(peer, shown);
                }
                let status = with_reason(refused.code, refused.reason, refused.told, None);
                let _ = answers.send(Box::new(Err(status))).await;
                return None;
            }
        };
        if answers.is_closed() {
            // It has gone while we stood still, and is somewhere else by now:
            // a session of its own there must not be fenced from here.
            return None;
        }
        let token = SessionToken(random_bytes());
        let facts = SessionFacts {
            token,
            instance_id: open.instance_id,
            incarnation: open.incarnation,
            identity: peer.identity.clone(),
            named,
        };
        let now = Micros(self.clock.now_micros());
        let begun = match self.sessions.begin(party, facts.clone(), now) {
            Ok(begun) => begun,
            Err(early) => {
                tracing::warn!(event = "session_too_early", %party, remote = %peer.remote, wait = ?early.wait);
                let _ = answers.send(Box::new(Err(fenced(early.wait)))).await;
                return None;
            }
        };
        // Judged again now that the session is in the list: a right that was
        // taken away while Open was on its way is seen either here or there.
        if self.is_forbidden(party, &facts) {
            if let Err(refused) = self.judge(peer) {
                drop(begun);
                self.refused(peer, refused);
            }
            let _ = answers.send(Box::new(Err(not_registered()))).await;
            return None;
        }
        let Begun {
            guard,
            end: stop,
            contest,
        } = begun;
        let state = self.state(party);
        state.send_modify(|state| {
            state.peer_certificate_expires_at = Some(peer.identity.not_after);
            if let Some(contest) = contest {
                state.alarm = Some(LinkAlarm {
                    reason: TWO_INSTANCES.to_owned(),
                    why: contest.why,
                    until: Some(Micros(now.0 + CONTEST_SHOWN_MICROS)),
                });
            }
        });
        let own = self.material.borrow().identity().clone();
        let ends = peer.identity.not_after.min(own.not_after);
        let stop = Lifetime::new(self.max_age, ends, now, random_unit())
            .watch(stop, self.material.clone());
        let link = HubLink {
            party: party.clone(),
            store: self.store.clone(),
            token,
            limits: self.limits.clone(),
            minimum_version: self.minimum_version.clone(),
            clock: self.clock.clone(),
            stop,
            state: state.clone(),
            certificate_expires_at: Some(own.not_after),
        };
        tracing::info!(
            event = "session_opened",
            %party,
            remote = %peer.remote,
            serial = %peer.identity.serial
        );
        // Opening may wait for the store. Who has gone meanwhile is somewhere
        // else by then: a session of its own there must not be fenced from here.
        let opened = tokio::select! {
            biased;
            () = answers.closed() => return None,
            opened = open_hub(link, open, inbound, answers.clone()) => opened,
        };
        Some(LetIn {
            guard,
            token,
            state,
            opened,
        })
    }

    /// From its moment on the minimum version is in force.
    fn check_software(&self, open: Open) -> Result<Open, OpenRefused> {
        let now = Micros(self.clock.now_micros());
        let Some(minimum) = &self.minimum_version else {
            return Ok(open);
        };
        if !is_too_old(minimum, &open.software, now) {
            return Ok(open);
        }
        let least = &minimum.version;
        Err(OpenRefused {
            code: Code::FailedPrecondition,
            reason: "SOFTWARE_TOO_OLD",
            told: format!("this hub takes {least} or later, as it announced"),
            needs_a_person: Some(format!(
                "its node runs {}, and {least} is the least by now: its operator has to update; what waits there stays there",
                open.software
                    .chars()
                    .take(64)
                    .collect::<String>()
                    .escape_debug()
            )),
        })
    }

    fn judge(&self, peer: &PeerInfo) -> Result<(PartyId, bool), Refused> {
        let registry = self.registry.borrow().clone();
        let material = self.material.borrow().clone();
        resolve(&peer.identity, &registry, &material, PartyMode::Stream)
    }

    fn is_forbidden(&self, party: &PartyId, facts: &SessionFacts) -> bool {
        let registry = self.registry.borrow().clone();
        let material = self.material.borrow().clone();
        forbidden(party, facts, &registry, &material).is_some()
    }

    /// Tells our own operator; the caller learns no more than "not here".
    fn refused(&self, peer: &PeerInfo, refused: Refused) {
        let Refused { party, reason, why } = &refused;
        let party = party.as_ref().map(PartyId::as_str);
        tracing::warn!(event = "party_refused", remote = %peer.remote, party, reason, why);
        self.show_refused(&refused);
    }

    /// Shows a party as refused, unless it has a session: then somebody with
    /// another certificate of this party was turned away, and the link stands.
    fn show_refused(&self, refused: &Refused) {
        let Some(party) = &refused.party else { return };
        if self.sessions.is_live(party) || !self.is_known(party) {
            return;
        }
        let now = Micros(self.clock.now_micros());
        let phase = Phase::Refused {
            reason: refused.reason.to_owned(),
            why: refused.why.clone(),
        };
        self.state(party)
            .send_modify(|state| state.enter(phase, now));
    }

    /// The board holds registered parties only: strangers can't make it grow.
    fn is_known(&self, party: &PartyId) -> bool {
        self.registry.borrow().directory.parties.contains_key(party)
    }

    fn state(&self, party: &PartyId) -> Arc<watch::Sender<LinkState>> {
        let mut board = self
            .board
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Micros(self.clock.now_micros());
        board
            .entry(party.clone())
            .or_insert_with(|| Arc::new(watch::channel(LinkState::new(now)).0))
            .clone()
    }

    fn ended(
        &self,
        party: &PartyId,
        token: SessionToken,
        state: &watch::Sender<LinkState>,
        end: &LinkEnd,
        peer: &PeerInfo,
    ) {
        let now = Micros(self.clock.now_micros());
        let why = match end {
            LinkEnd::Mismatch { reason, why } => {
                tracing::error!(event = "link_mismatch", %party, reason, why);
                state.send_modify(|state| {
                    state.enter(
                        Phase::Mismatch {
                            reason: (*reason).to_owned(),
                            why: why.clone(),
                        },
                        now,
                    );
                });
                return;
            }
            LinkEnd::Reopen => return,
            LinkEnd::Session(End::DrainSent(drain)) if drain.reason == DrainReason::Revoked => {
                if let Err(refused) = self.judge(peer) {
                    self.show_refused(&refused);
                    return;
                }
                "ended by the hub: its right was taken away for a moment".to_owned()
            }
            LinkEnd::Session(End::DrainSent(drain)) => {
                format!("ended by the hub: {:?}", drain.reason)
            }
            LinkEnd::Session(End::Drained(drain)) => {
                format!("ended by the node: {:?}", drain.reason)
            }
            LinkEnd::Session(End::Silent) => "nothing was heard from the node".to_owned(),
            LinkEnd::Session(other) => format!("ended: {other:?}"),
            LinkEnd::Status(status) => format!("the connection was lost: {}", status.message()),
            LinkEnd::Closed => "the node closed the connection".to_owned(),
            LinkEnd::Store(error) => format!("the hub's store: {error}"),
            LinkEnd::Broken(why) => why.clone(),
        };
        tracing::info!(event = "session_ended", %party, why);
        if self.sessions.is_superseded(party, token) {
            return;
        }
        state.send_modify(|state| state.enter(Phase::Disconnected { why }, now));
    }
}

fn not_registered() -> Status {
    with_reason(
        Code::PermissionDenied,
        "PARTY_NOT_REGISTERED",
        "this certificate opens nothing here; ask the hub's operator to register and enable its party".to_owned(),
        None,
    )
}

fn sessions_full() -> Status {
    // Spread, so that those who are sent away do not come back together.
    let after = Duration::from_secs(20).mul_f64(1.0 + random_unit());
    with_reason(
        Code::ResourceExhausted,
        "OVERLOADED",
        "the hub has as many sessions as it takes; nothing was processed, it is safe to try again"
            .to_owned(),
        Some(after),
    )
}

fn fenced(wait: Duration) -> Status {
    with_reason(
        Code::Aborted,
        "SESSION_FENCED",
        "another session of this party took over".to_owned(),
        Some(wait),
    )
}

/// What the node is told; `None`: the stream simply ends.
pub fn status_of(end: &LinkEnd) -> Option<Status> {
    Some(match end {
        LinkEnd::Mismatch { reason, why } => {
            with_reason(Code::FailedPrecondition, reason, why.clone(), None)
        }
        LinkEnd::Session(End::Mismatch(why)) => {
            with_reason(Code::Aborted, "JOURNAL_MISMATCH", why.clone(), None)
        }
        LinkEnd::Session(End::Violation(violation)) => with_reason(
            Code::InvalidArgument,
            "PROTOCOL_VIOLATION",
            violation.to_string(),
            None,
        ),
        LinkEnd::Session(End::Silent) => {
            Status::deadline_exceeded("nothing was heard for too long")
        }
        LinkEnd::Store(StoreError::Fenced) => fenced(Duration::from_secs(60)),
        LinkEnd::Store(StoreError::Mismatch(why)) => {
            with_reason(Code::Aborted, "JOURNAL_MISMATCH", why.clone(), None)
        }
        LinkEnd::Store(error) => with_reason(
            Code::Unavailable,
            "STORE_UNAVAILABLE",
            format!("the hub can't store now: {error}"),
            Some(Duration::from_secs(5)),
        ),
        LinkEnd::Broken(why) => with_reason(
            Code::InvalidArgument,
            "PROTOCOL_VIOLATION",
            why.clone(),
            None,
        ),
        LinkEnd::Session(End::Drained(_) | End::DrainSent(_))
        | LinkEnd::Status(_)
        | LinkEnd::Closed
        | LinkEnd::Reopen => return None,
    })
}

fn with_reason(code: Code, reason: &str, message: String, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "jembatan", std::collections::HashMap::new());
    if let Some(text) = indonesian(reason) {
        details.set_localized_message("id", text);
    }
    if let Some(retry) = retry {
        details.set_retry_info(Some(retry));
    }
    Status::with_error_details(code, format!("{reason}: {message}"), details)
}

/// The same for the people at a region's node.
fn indonesian(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "PARTY_NOT_REGISTERED" => {
            "Sertifikat ini tidak berlaku di sini. Mintalah operator pusat untuk mendaftarkan dan mengaktifkan pihak Anda."
        }
        "OVERLOADED" => "Pusat sedang penuh. Belum ada yang diproses; aman untuk dicoba lagi.",
        "SESSION_FENCED" => {
            "Sesi lain dari pihak ini mengambil alih. Periksa apakah ada dua simpul dengan sertifikat yang sama."
        }
        "STORE_UNAVAILABLE" => {
            "Pusat sedang tidak dapat menyimpan. Kiriman tetap aman di simpul Anda."
        }
        _ => return None,
    })
}
