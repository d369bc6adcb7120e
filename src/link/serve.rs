//! The hub's end of a link: it answers `Open`, then both ends are alike.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tonic::{Code, Streaming};

use crate::{
    domain::{Limits, Micros, MinimumVersion, PartyId},
    exchange::{
        Direction, DrainReason, Frame, Open, Opened, Place, PreviousEpoch, Receiver, Sender,
        Session, SessionOptions, hub_alarm,
    },
    runtime::{Clock, random_unit},
    store::{Heads, HubStore, SessionToken, StoreError},
    wire::{self, v1},
};

use super::{
    PROTOCOL_VERSION,
    drive::{Driver, Jobs, LinkEnd},
    envelope::{Answer, Envelope as _},
    side::HubSide,
    software,
    state::{LinkState, Phase},
};

/// Longest wait for the first frame.
const FIRST_FRAME: Duration = Duration::from_secs(15);

/// What the hub's end needs.
pub struct HubLink {
    /// Whose link.
    pub party: PartyId,
    /// Where it writes.
    pub store: Arc<dyn HubStore>,
    /// Fences other sessions of this party.
    pub token: SessionToken,
    /// Announced to the node.
    pub limits: Limits,
    /// Announced with each heartbeat.
    pub minimum_version: Option<MinimumVersion>,
    /// The hub's clock.
    pub clock: Arc<dyn Clock>,
    /// Tells the session to end.
    pub stop: watch::Receiver<Option<DrainReason>>,
    /// What the link tells of itself.
    pub state: Arc<watch::Sender<LinkState>>,
    /// When the hub's own certificate ends.
    pub certificate_expires_at: Option<Micros>,
}

/// Why a stream does not become a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRefused {
    /// For the node.
    pub code: Code,
    /// For machines.
    pub reason: &'static str,
    /// For the node's operator.
    pub told: String,
    /// For our own operator, if somebody has to act; else it will pass.
    pub needs_a_person: Option<String>,
}

/// Reads the frame with which a node begins.
///
/// # Errors
/// None came in time, or it is another one.
pub async fn first_frame(
    inbound: &mut Streaming<v1::ExchangeRequest>,
) -> Result<Open, OpenRefused> {
    let refused = |code, told: String| OpenRefused {
        code,
        reason: "PROTOCOL_VIOLATION",
        told,
        needs_a_person: None,
    };
    let message = match timeout(FIRST_FRAME, inbound.message()).await {
        Ok(Ok(message)) => message,
        Ok(Err(status)) => return Err(refused(status.code(), status.message().to_owned())),
        Err(_) => {
            let told = "no Open came in time".to_owned();
            return Err(refused(Code::DeadlineExceeded, told));
        }
    };
    let not_open = || {
        let told = "the stream must begin with Open".to_owned();
        refused(Code::InvalidArgument, told)
    };
    let frame = message
        .and_then(super::envelope::Envelope::open)
        .ok_or_else(not_open)?;
    match wire::frame_from_proto(frame) {
        Ok(Frame::Open(open)) if open.versions.contains(&PROTOCOL_VERSION) => Ok(*open),
        Ok(Frame::Open(open)) => Err(unsupported(&open)),
        Ok(_) => Err(not_open()),
        Err(error) => Err(refused(
            Code::InvalidArgument,
            format!("Open can't be read: {error}"),
        )),
    }
}

fn unsupported(open: &Open) -> OpenRefused {
    let spoken = &open.versions;
    OpenRefused {
        code: Code::FailedPrecondition,
        reason: "UNSUPPORTED_VERSION",
        told: format!(
            "this hub speaks version {PROTOCOL_VERSION} of the protocol, the node speaks {spoken:?}"
        ),
        needs_a_person: Some(format!(
            "its node ({}) speaks versions {spoken:?} of the protocol, this hub speaks {PROTOCOL_VERSION}: one of the two needs other software; what waits at the node stays there",
            open.software
                .chars()
                .take(64)
                .collect::<String>()
                .escape_debug()
        )),
    }
}

/// A session that both ends have agreed on, at the hub's end.
pub struct HubSession(Box<Driver<HubSide, v1::ExchangeRequest, Answer>>);

impl HubSession {
    /// Runs until the session is over.
    pub async fn run(self) -> LinkEnd {
        self.0.run().await
    }
}

/// Answers `Open`; then the session can run.
///
/// # Errors
/// There is none: why not.
pub async fn open_hub(
    link: HubLink,
    open: Open,
    inbound: Streaming<v1::ExchangeRequest>,
    outbound: mpsc::Sender<Answer>,
) -> Result<HubSession, LinkEnd> {
    let (heads, opened) = answer(&link, &open).await.map_err(LinkEnd::Store)?;
    let is_same_epoch = open.epoch == opened.epoch;
    let alarm = hub_alarm(&open, &opened);
    let frame = wire::frame_to_proto(Frame::Opened(Box::new(opened)));
    if outbound.send(Answer::seal(frame)).await.is_err() {
        return Err(LinkEnd::Closed);
    }
    if let Some((reason, why)) = alarm {
        return Err(LinkEnd::Mismatch { reason, why });
    }
    if !is_same_epoch {
        // The node enters the epoch and opens again.
        return Err(wait_for_close(inbound).await);
    }
    // What the node holds it holds on its disk, and the chain has agreed.
    link.store
        .acknowledge(&link.party, Direction::Deliveries, open.received)
        .await
        .map_err(LinkEnd::Store)?;
    let now = Micros(link.clock.now_micros());
    link.state.send_modify(|state| {
        state.enter(Phase::Connected, now);
        state.last_heard = Some(now);
        state.clock_skew_ms = (open.sent_at.0 - now.0) / 1_000;
        state.peer_software.clone_from(&open.software);
    });
    let session = hub_session(&link, &open, &heads);
    Ok(HubSession(Box::new(Driver {
        side: Arc::new(HubSide {
            party: link.party,
            store: link.store,
            token: link.token,
            clock: link.clock.clone(),
        }),
        session,
        inbound,
        outbound,
        heads,
        stop: link.stop,
        state: link.state,
        clock: link.clock,
        certificate_expires_at: link.certificate_expires_at,
        minimum_version: link.minimum_version,
        began: Instant::now(),
        jobs: Jobs::default(),
    })))
}

/// The hub's half of a session that goes on where the node says it stands.
pub fn hub_session(link: &HubLink, open: &Open, heads: &Heads) -> Session {
    let (epoch, limits) = (heads.epoch, &link.limits);
    Session::new(SessionOptions {
        sender: Sender::new(Direction::Deliveries, epoch, open.received, limits),
        receiver: Receiver::new(Direction::Submissions, epoch, heads.submissions, limits),
        limits: limits.clone(),
        copy: None,
        heartbeat_jitter: 0.8 + 0.4 * random_unit(),
        now_ms: 0,
    })
}

async fn wait_for_close(mut inbound: Streaming<v1::ExchangeRequest>) -> LinkEnd {
    let closing = async { while let Ok(Some(_)) = inbound.message().await {} };
    let _ = timeout(FIRST_FRAME, closing).await;
    LinkEnd::Reopen
}

/// Where the hub stands, seen from where the node says it stands.
///
/// # Errors
/// The store can't go on.
pub async fn answer(link: &HubLink, open: &Open) -> Result<(Heads, Opened), StoreError> {
    let store = &link.store;
    let party = &link.party;
    let heads = store.open_session(party, link.token).await?;
    let is_same_epoch = open.epoch == heads.epoch;
    let root = Place::root(party, Direction::Submissions, heads.epoch);
    let (at_acknowledged, at_shorter_head, at_received) = if is_same_epoch {
        let shorter = open.head.position.min(heads.submissions.position);
        (
            store
                .place_at(party, Direction::Submissions, open.acknowledged.position)
                .await?,
            store
                .place_at(party, Direction::Submissions, shorter)
                .await?
                .unwrap_or(root),
            store
                .place_at(party, Direction::Deliveries, open.received.position)
                .await?,
        )
    } else {
        (None, root, None)
    };
    let ended = if is_same_epoch {
        None
    } else {
        store
            .catch_up(party, open.epoch, open.received.position)
            .await?;
        store.ended_epoch(party, open.epoch).await?
    };
    let opened = Opened {
        version: PROTOCOL_VERSION,
        capabilities: Vec::new(),
        instance_id: store.instance_id(),
        software: software(),
        epoch: heads.epoch,
        at_acknowledged,
        at_shorter_head,
        head: heads.submissions,
        deliveries_head: heads.deliveries,
        at_received,
        consumed_through: heads.consumed_through,
        limits: link.limits.clone(),
        sent_at: Micros(link.clock.now_micros()),
        previous_epoch: ended.map(|ended| PreviousEpoch {
            epoch: ended.epoch,
            submissions: ended.submissions,
            deliveries: ended.deliveries,
        }),
        party: party.clone(),
    };
    Ok((heads, opened))
}
