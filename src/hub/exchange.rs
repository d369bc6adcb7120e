//! The exchange service: one stream per party, judged at its beginning and at
//! every change of the registry.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::{Limits, Micros, MinimumVersion, PartyId, PartyMode},
    exchange::{DrainReason, End},
    identity::Material,
    link::{HubLink, LinkEnd, LinkState, Phase, first_frame, run_hub},
    runtime::{Clock, random_bytes, random_unit},
    store::{HubStore, Registry, SessionToken, StoreError},
    transport::PeerInfo,
    wire::v1::{self, exchange_service_server::ExchangeService},
};

use super::{SessionFacts, Sessions, peers::resolve};

/// How long before the end of a certificate its session drains.
const BEFORE_EXPIRY: i64 = 30_000_000;

/// States of the links that have been since the hub started.
pub(super) type Board =
    Arc<std::sync::Mutex<std::collections::HashMap<PartyId, Arc<watch::Sender<LinkState>>>>>;

#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) store: Arc<dyn HubStore>,
    pub(super) sessions: Sessions,
    pub(super) registry: watch::Receiver<Arc<Registry>>,
    pub(super) material: watch::Receiver<Arc<Material>>,
    pub(super) limits: Limits,
    pub(super) minimum_version: Option<MinimumVersion>,
    pub(super) max_age: Duration,
    pub(super) max_sessions: usize,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Board,
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
        let registry = self.registry.borrow().clone();
        let (party, named) =
            resolve(&peer.identity, &registry, PartyMode::Stream).map_err(|refused| {
                tracing::warn!(event = "party_refused", remote = %peer.remote, why = %refused.why);
                not_registered()
            })?;
        if !self.sessions.has_room(&party, self.max_sessions) {
            tracing::warn!(event = "sessions_full", %party, max_sessions = self.max_sessions);
            return Err(sessions_full());
        }
        let (answers, stream) = mpsc::channel(4);
        let this = self.clone();
        tokio::spawn(async move {
            this.serve(party, named, peer, request.into_inner(), answers)
                .await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

type Answers = mpsc::Sender<Result<v1::ExchangeResponse, Status>>;

impl Exchange {
    async fn serve(
        self,
        party: PartyId,
        named: bool,
        peer: PeerInfo,
        mut inbound: Streaming<v1::ExchangeRequest>,
        answers: Answers,
    ) {
        let open = match first_frame(&mut inbound).await {
            Ok(open) => open,
            Err(status) => {
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let token = SessionToken(random_bytes());
        let facts = SessionFacts {
            token,
            instance_id: open.instance_id,
            serial: peer.identity.serial.clone(),
            fingerprint: peer.identity.fingerprint.clone(),
            named,
        };
        let (_guard, stop) = self.sessions.begin(&party, facts);
        let state = self.state(&party);
        let now = Micros(self.clock.now_micros());
        state.send_modify(|state| {
            state.peer_certificate_expires_at = Some(peer.identity.not_after);
        });
        let own = self.material.borrow().identity().clone();
        let stop = self.with_age(stop, &peer, own.not_after, now);
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
        let (frames, mut framed) = mpsc::channel::<v1::ExchangeResponse>(4);
        let forward = async {
            while let Some(frame) = framed.recv().await {
                if answers.send(Ok(frame)).await.is_err() {
                    break;
                }
            }
        };
        let (end, ()) = tokio::join!(run_hub(link, open, inbound, frames), forward);
        self.ended(&party, token, &state, &end);
        if let Some(status) = status_of(&end) {
            let _ = answers.send(Err(status)).await;
        }
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

    /// Ends a session at its age, or before either certificate ends.
    fn with_age(
        &self,
        mut stop: watch::Receiver<Option<DrainReason>>,
        peer: &PeerInfo,
        own_not_after: Micros,
        now: Micros,
    ) -> watch::Receiver<Option<DrainReason>> {
        let (tell, told) = watch::channel(None);
        // Spread, so that a thousand sessions that began together do not end together.
        let age = self.max_age.mul_f64(0.9 + 0.1 * random_unit());
        let ends = peer.identity.not_after.0.min(own_not_after.0);
        let left = Duration::from_micros((ends - now.0 - BEFORE_EXPIRY).max(0) as u64);
        let (after, reason) = if left < age {
            (left, DrainReason::CertificateExpires)
        } else {
            (age, DrainReason::Age)
        };
        tokio::spawn(async move {
            tokio::select! {
                () = tell.closed() => {}
                () = tokio::time::sleep(after) => { tell.send_replace(Some(reason)); }
                changed = stop.changed() => {
                    let reason = stop.borrow().unwrap_or(DrainReason::Stopping);
                    if changed.is_ok() { tell.send_replace(Some(reason)); }
                }
            }
            tell.closed().await;
        });
        told
    }

    fn ended(
        &self,
        party: &PartyId,
        token: SessionToken,
        state: &watch::Sender<LinkState>,
        end: &LinkEnd,
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
            LinkEnd::Session(End::DrainSent(drain)) => {
                format!("ended by the hub: {:?}", drain.reason)
            }
            LinkEnd::Session(End::Drained(drain)) => {
                format!("ended by the node: {:?}", drain.reason)
            }
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
        LinkEnd::Store(StoreError::Fenced) => with_reason(
            Code::Aborted,
            "SESSION_FENCED",
            "another session of this party took over".to_owned(),
            Some(Duration::from_secs(60)),
        ),
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
