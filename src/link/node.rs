//! The node's end of a link: it opens, judges the hub's answer by the rules of
//! opening, then both ends are alike.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    domain::{HUB_MESSAGE_BYTES, Micros, PartyId},
    exchange::{
        Direction, DrainReason, Frame, LocalState, Open, Opened, Plan, Receiver, Sender, Session,
        SessionOptions, Verdict, judge, needs_chain_at,
    },
    runtime::{Clock, random_unit},
    store::{AdapterStore, Heads, StoreError},
    wire::{
        self,
        v1::{self, exchange_service_server::SERVICE_NAME},
    },
};

use super::{
    PROTOCOL_VERSION,
    drive::{Driver, Jobs, LinkEnd},
    envelope::Envelope as _,
    side::NodeSide,
    software,
    state::{LinkState, Phase},
};

/// Longest wait for the hub's answer to `Open`.
const OPENED: Duration = Duration::from_secs(30);
/// Longest wait for a new stream beside a running one.
const ADMITTED: Duration = Duration::from_secs(10);

/// What the node's end needs.
pub struct NodeLink {
    /// Whose link.
    pub party: PartyId,
    /// Where it writes.
    pub store: Arc<dyn AdapterStore>,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
    /// Tells the session to end.
    pub stop: watch::Receiver<Option<DrainReason>>,
    /// What the link tells of itself.
    pub state: Arc<watch::Sender<LinkState>>,
    /// When the party's own certificate ends.
    pub certificate_expires_at: Option<Micros>,
    /// Made at the start of this process; `None`: not told.
    pub incarnation: Option<[u8; 16]>,
}

/// A stream that the hub has let in, and on which nothing was said yet. The
/// hub judges certificate and registration before the first frame, so a node
/// learns that a new certificate is good while its old session still runs.
#[derive(Debug)]
pub struct Admitted {
    inbound: Streaming<v1::ExchangeResponse>,
    outbound: mpsc::Sender<v1::ExchangeRequest>,
}

/// Asks the hub whether it can take what a link brings. A hub whose store is
/// broken goes on speaking TLS and lets streams in, and ends them at `Open`:
/// whoever has a session that runs elsewhere asks this before it gives that one
/// up. A hub that keeps no health of its exchange is taken at its word.
///
/// # Errors
/// It can't, or says nothing.
pub async fn serves(channel: Channel) -> Result<(), LinkEnd> {
    let request = HealthCheckRequest {
        service: SERVICE_NAME.to_owned(),
    };
    let mut client = HealthClient::new(channel);
    match timeout(ADMITTED, client.check(request)).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(Ok(_)) => Err(LinkEnd::Status(Box::new(Status::unavailable(
            "the hub's own health says that it can't serve links now",
        )))),
        Ok(Err(status)) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => Ok(()),
        Ok(Err(status)) => Err(LinkEnd::Status(Box::new(status))),
        Err(_) => Err(LinkEnd::Broken(
            "the hub did not say in time whether it serves".to_owned(),
        )),
    }
}

/// Asks the hub to let a new stream in, beside one that is running. The caller
/// has to end that one before [`run_admitted`], and has a few seconds for it.
///
/// # Errors
/// Why the hub does not.
pub async fn admit(channel: Channel) -> Result<Admitted, LinkEnd> {
    let (outbound, frames) = mpsc::channel(4);
    let mut client = v1::exchange_service_client::ExchangeServiceClient::new(channel)
        .max_decoding_message_size(HUB_MESSAGE_BYTES);
    let asking = client.exchange(ReceiverStream::new(frames));
    match timeout(ADMITTED, asking).await {
        Ok(Ok(answer)) => Ok(Admitted {
            inbound: answer.into_inner(),
            outbound,
        }),
        Ok(Err(status)) => Err(LinkEnd::Status(Box::new(status))),
        Err(_) => Err(LinkEnd::Broken(
            "the hub did not let a new stream in in time".to_owned(),
        )),
    }
}

/// Opens a session on a stream that was let in, and runs it until it is over.
pub async fn run_admitted(link: NodeLink, admitted: Admitted) -> LinkEnd {
    let Admitted {
        mut inbound,
        outbound,
    } = admitted;
    // What the session before this one still had at the writer lands first:
    // Open has to say where this node stands, not where it stood.
    if let Err(error) = link.store.probe().await {
        return LinkEnd::Store(error);
    }
    let heads = match say_open(&link, &outbound).await {
        Ok(heads) => heads,
        Err(end) => return end,
    };
    match timeout(OPENED, inbound.message()).await {
        Ok(Ok(first)) => opened(link, heads, first, inbound, outbound).await,
        Ok(Err(status)) => LinkEnd::Status(Box::new(status)),
        Err(_) => LinkEnd::Broken("the hub did not answer Open in time".to_owned()),
    }
}

/// Opens a session on a channel and runs it until it is over.
pub async fn run_node(link: NodeLink, channel: Channel) -> LinkEnd {
    let (outbound, frames) = mpsc::channel(4);
    // Open goes with the call, which saves a round trip.
    let heads = match say_open(&link, &outbound).await {
        Ok(heads) => heads,
        Err(end) => return end,
    };
    let mut client = v1::exchange_service_client::ExchangeServiceClient::new(channel)
        .max_decoding_message_size(HUB_MESSAGE_BYTES);
    let opening = async {
        let mut inbound = client
            .exchange(ReceiverStream::new(frames))
            .await?
            .into_inner();
        let first = inbound.message().await?;
        Ok::<_, tonic::Status>((inbound, first))
    };
    match timeout(OPENED, opening).await {
        Ok(Ok((inbound, first))) => opened(link, heads, first, inbound, outbound).await,
        Ok(Err(status)) => LinkEnd::Status(Box::new(status)),
        Err(_) => LinkEnd::Broken("the hub did not answer Open in time".to_owned()),
    }
}

async fn say_open(
    link: &NodeLink,
    outbound: &mpsc::Sender<v1::ExchangeRequest>,
) -> Result<Heads, LinkEnd> {
    let heads = match link.store.heads(&link.party).await {
        Ok(heads) => heads,
        Err(error) => return Err(LinkEnd::Store(error)),
    };
    let open = v1::ExchangeRequest::seal(wire::frame_to_proto(open_frame(link, &heads)));
    match outbound.send(open).await {
        Ok(()) => Ok(heads),
        Err(_) => Err(LinkEnd::Closed),
    }
}

async fn opened(
    link: NodeLink,
    heads: Heads,
    first: Option<v1::ExchangeResponse>,
    inbound: Streaming<v1::ExchangeResponse>,
    outbound: mpsc::Sender<v1::ExchangeRequest>,
) -> LinkEnd {
    let frame = first.and_then(super::envelope::Envelope::open);
    let opened = match frame.map(wire::frame_from_proto) {
        Some(Ok(Frame::Opened(opened))) if opened.party == link.party => *opened,
        Some(Ok(Frame::Opened(opened))) => {
            return LinkEnd::Broken(format!(
                "the hub takes this certificate for {}, but it is configured for {}",
                opened.party, link.party
            ));
        }
        Some(Ok(_)) => return LinkEnd::Broken("the hub did not begin with Opened".to_owned()),
        Some(Err(error)) => return LinkEnd::Broken(format!("Opened can't be read: {error}")),
        None => return LinkEnd::Closed,
    };
    match prepare(&link, &heads, &opened).await {
        Ok(Ok(session)) => drive(link, session, opened, inbound, outbound).await,
        Ok(Err(end)) => end,
        Err(error) => LinkEnd::Store(error),
    }
}

/// The frame with which the node begins.
pub fn open_frame(link: &NodeLink, heads: &Heads) -> Frame {
    Frame::Open(Box::new(Open {
        versions: vec![PROTOCOL_VERSION],
        capabilities: Vec::new(),
        instance_id: link.store.instance_id(),
        software: software(),
        epoch: heads.epoch,
        acknowledged: heads.submissions_acknowledged,
        head: heads.submissions,
        received: heads.deliveries_acknowledged,
        consumed_through: heads.consumed_through,
        sent_at: Micros(link.clock.now_micros()),
        incarnation: link.incarnation,
    }))
}

/// Judges the hub's answer and brings the store in line with it: a session, or
/// why there is none.
///
/// # Errors
/// The store can't go on.
pub async fn prepare(
    link: &NodeLink,
    heads: &Heads,
    opened: &Opened,
) -> Result<Result<(Heads, Session), LinkEnd>, StoreError> {
    let store = &link.store;
    let party = &link.party;
    let local = LocalState {
        party: party.clone(),
        epoch: heads.epoch,
        acknowledged: heads.submissions_acknowledged,
        head: heads.submissions,
        received: heads.deliveries_acknowledged,
    };
    let own_chain = match needs_chain_at(&local, opened) {
        Some(position) => store
            .place_at(party, Direction::Submissions, position)
            .await?
            .map(|place| place.chain),
        None => None,
    };
    let plan: Plan = match judge(&local, own_chain, opened) {
        Verdict::Continue(plan) => plan,
        Verdict::HubBehind(why) => {
            return Ok(Err(LinkEnd::Mismatch {
                reason: "HUB_BEHIND",
                why,
            }));
        }
        Verdict::Forked(why) => {
            return Ok(Err(LinkEnd::Mismatch {
                reason: "JOURNAL_FORKED",
                why,
            }));
        }
        Verdict::EnterEpoch {
            epoch,
            resend_after,
        } => {
            tracing::info!(event = "epoch_entered", %party, epoch, resend_after);
            store.adopt_epoch(party, epoch, resend_after).await?;
            return Ok(Err(LinkEnd::Reopen));
        }
    };
    let heads = match plan.adopt {
        Some(adopt) => {
            tracing::warn!(
                event = "tail_taken_from_hub",
                %party,
                kept_through = adopt.keep_through,
                hub_head = plan.hub_head.position,
                "the hub holds submissions that this node lacks: taking them back"
            );
            store
                .adopt(party, adopt.keep_through, plan.hub_head)
                .await?
        }
        None => {
            store
                .acknowledge(party, Direction::Submissions, plan.hub_head)
                .await?;
            store.heads(party).await?
        }
    };
    if opened.consumed_through > heads.consumed_through {
        store.adopt_consumed(party, opened.consumed_through).await?;
    }
    let limits = &opened.limits;
    let session = Session::new(SessionOptions {
        sender: Sender::new(Direction::Submissions, opened.epoch, plan.hub_head, limits),
        receiver: Receiver::new(
            Direction::Deliveries,
            opened.epoch,
            heads.deliveries_acknowledged,
            limits,
        ),
        limits: limits.clone(),
        copy: heads.copy_wanted.map(|copy| (copy.first, copy.last)),
        heartbeat_jitter: 0.8 + 0.4 * random_unit(),
        now_ms: 0,
    });
    Ok(Ok((heads, session)))
}

async fn drive(
    link: NodeLink,
    (heads, session): (Heads, Session),
    opened: Opened,
    inbound: Streaming<v1::ExchangeResponse>,
    outbound: mpsc::Sender<v1::ExchangeRequest>,
) -> LinkEnd {
    let now = Micros(link.clock.now_micros());
    tracing::info!(event = "link_connected", party = %link.party, hub = opened.software);
    link.state.send_modify(|state| {
        state.enter(Phase::Connected, now);
        state.last_heard = Some(now);
        state.clock_skew_ms = (opened.sent_at.0 - now.0) / 1_000;
        state.peer_software.clone_from(&opened.software);
    });
    let driver = Box::new(Driver {
        side: Arc::new(NodeSide {
            party: link.party,
            store: link.store,
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
        minimum_version: None,
        began: Instant::now(),
        jobs: Jobs::default(),
    });
    driver.run().await
}
