//! The wire of release 0.1, as it was recorded then (`tests/fixtures/wire-0.1`,
//! which is never written anew), against today's software.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use jembatan::{
    domain::{Digest, PartyId},
    exchange::{Direction, Entries, Frame, Place, extend},
    identity::{Files, Material, Purpose, TrustDomain},
    transport::{Listener, ListenerOptions},
    wire::{
        self,
        v1::{
            self,
            exchange_service_server::{ExchangeService, ExchangeServiceServer},
            frame::Kind,
        },
    },
};
use prost::Message as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::{
    faults_line::adapter_behind,
    hostile_link::Attacker,
    support::{World, all_items, complaint, eventually, now, submit},
};

/// Whose session was recorded.
const CITY: &str = "pemda-33.74";

/// A session, frame by frame: who sent it, and the frame.
fn recorded(name: &str) -> Vec<(String, v1::Frame)> {
    let path = format!(
        "{}/tests/fixtures/wire-0.1/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let transcript: Value = serde_json::from_str(&text).unwrap();
    let steps = transcript["steps"].as_array().unwrap().iter();
    let frames = steps.filter_map(|step| {
        let bytes = Bytes::from(hex::decode(step["hex"].as_str()?).unwrap());
        // Both directions have the same envelope.
        let message = v1::ExchangeRequest::decode(bytes).unwrap();
        Some((
            step["from"].as_str().unwrap().to_owned(),
            message.frame.unwrap(),
        ))
    });
    frames.collect()
}

/// Of one sender and one kind, in order.
fn frames(name: &str, from: &str, wanted: impl Fn(&Kind) -> bool) -> Vec<Kind> {
    recorded(name)
        .into_iter()
        .filter(|(sender, _)| sender == from)
        .filter_map(|(_, frame)| frame.kind.filter(|kind| wanted(kind)))
        .collect()
}

fn entries(kind: Kind) -> Entries {
    match wire::frame_from_proto(v1::Frame { kind: Some(kind) }) {
        Ok(Frame::Entries(entries)) => entries,
        other => panic!("{other:?}"),
    }
}

/// Scenario: every frame of two sessions of release 0.1, a first meeting and a
/// lost disk that is copied back, is read by today's software and said again.
/// Guarantee: it means what it meant: nothing is dropped, and nothing changes.
#[test]
fn every_recorded_frame_is_still_understood() {
    let mut kinds = std::collections::HashSet::new();
    for name in ["normal", "lost-tail"] {
        for (from, frame) in recorded(name) {
            let read = wire::frame_from_proto(frame.clone());
            let read = read.unwrap_or_else(|error| panic!("{from}: {error}: {frame:?}"));
            kinds.insert(std::mem::discriminant(frame.kind.as_ref().unwrap()));
            assert_eq!(wire::frame_to_proto(read), frame, "{name}, of the {from}");
        }
    }
    assert_eq!(kinds.len(), 7, "all kinds that there were");
}

/// Scenario: a node of release 0.1, which says no incarnation and has no
/// capabilities, opens a session at today's hub, sends the heartbeats and the
/// entries that it sent then, and comes again with the same.
/// Guarantee: the hub takes them and decides them as it did then; the second
/// time they are duplicates with the original result.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_release_0_1_meets_this_hub() {
    let world = World::new();
    let is_entries = |kind: &Kind| matches!(kind, Kind::Entries(_));
    let said = frames("normal", "node", is_entries);
    let filed = entries(said.into_iter().next().unwrap()).entries;
    assert_eq!(filed.len(), 2);
    for round in 0..2_u64 {
        let mut node = Attacker::open(&world, CITY).await;
        for kind in frames("normal", "node", |kind| matches!(kind, Kind::Heartbeat(_))) {
            node.send(kind).await;
        }
        node.send_entries(filed.clone()).await;
        node.until_acknowledged(2 * (round + 1)).await;
        let told = node.decisions(2 * (round as usize + 1)).await;
        let outcome = match round {
            0 => v1::Outcome::Accepted,
            _ => v1::Outcome::Duplicate,
        };
        let newest = told.iter().filter(|(position, _)| *position > 2 * round);
        let newest: Vec<_> = newest.map(|(_, decision)| decision).collect();
        assert_eq!(newest.len(), 2);
        for decision in newest {
            assert_eq!(decision.outcome, outcome as i32, "{decision:?}");
            assert_eq!(decision.tracking_id.len(), 13, "{decision:?}");
        }
    }
    let counts = world.hub.sync(CITY).await.counts.unwrap();
    assert_eq!(
        (counts.accepted, counts.duplicates, counts.rejected),
        (2, 2, 0)
    );
}

/// A hub of release 0.1: it says what it said then, but for the chains of what
/// this node sends, which are its own.
struct OldHub {
    opened: Vec<Kind>,
    heartbeat: Kind,
    deliveries: Vec<Kind>,
    drain: Kind,
    /// What the node acknowledged, to be looked at.
    acknowledged: mpsc::Sender<v1::Acknowledgement>,
}

type Answers = mpsc::Sender<Result<v1::ExchangeResponse, Status>>;

async fn say(answers: &Answers, kind: Option<Kind>) {
    let frame = Some(v1::Frame { kind });
    let _ = answers.send(Ok(v1::ExchangeResponse { frame })).await;
}

impl OldHub {
    async fn serve(self: Arc<Self>, mut inbound: Streaming<v1::ExchangeRequest>, answers: Answers) {
        let mut head = None;
        while let Ok(Some(message)) = inbound.message().await {
            match message.frame.and_then(|frame| frame.kind) {
                Some(Kind::Open(open)) if open.epoch == 0 => {
                    return say(&answers, Some(self.opened[0].clone())).await;
                }
                Some(Kind::Open(open)) => {
                    if open.acknowledged.is_some_and(|place| place.position > 0) {
                        let stopped = Status::unavailable("this hub has had its day");
                        let _ = answers.send(Err(stopped)).await;
                        return;
                    }
                    let party = PartyId::parse(CITY).unwrap();
                    head = Some(Place::root(&party, Direction::Submissions, open.epoch));
                    say(&answers, Some(self.opened[1].clone())).await;
                    say(&answers, Some(self.heartbeat.clone())).await;
                    // A kind of frame that this node does not know.
                    say(&answers, None).await;
                }
                Some(kind @ Kind::Entries(_)) => {
                    let found = entries(kind);
                    let place = extend(head.unwrap(), found.direction, &found.entries);
                    head = Some(place);
                    let told = v1::Acknowledgement {
                        journal: v1::Journal::Submissions as i32,
                        epoch: found.epoch,
                        position: place.position,
                        chain: Bytes::copy_from_slice(place.chain.as_bytes()),
                    };
                    say(&answers, Some(Kind::Acknowledgement(told))).await;
                    if place.position == 2 {
                        for kind in self.deliveries.clone() {
                            say(&answers, Some(kind)).await;
                        }
                    }
                }
                Some(Kind::Acknowledgement(found)) => {
                    let is_last = found.position == 2;
                    let _ = self.acknowledged.send(found).await;
                    if is_last {
                        return say(&answers, Some(self.drain.clone())).await;
                    }
                }
                _ => {}
            }
        }
    }
}

struct Served(Arc<OldHub>);

#[tonic::async_trait]
impl ExchangeService for Served {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        tokio::spawn(self.0.clone().serve(request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn material(world: &World) -> Material {
    let files = Files {
        certificate: world.pki("hub.pem"),
        key: world.pki("hub.key"),
        roots: world.pki("ca.pem"),
        crls: Vec::new(),
    };
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    Material::load(&files, &Purpose::Hub, &domain, now()).unwrap()
}

/// Scenario: today's node meets a hub of release 0.1, which says byte by byte
/// what it said then: its Opened, a heartbeat, the decisions on two filings, an
/// event of the national desk, a drain; and a kind of frame that the node does
/// not know.
/// Guarantee: the filings go up and are decided, the local system gets decisions
/// and event, and what the node acknowledges is the chain that was recorded.
#[tokio::test(flavor = "multi_thread")]
async fn this_node_meets_a_hub_of_release_0_1() {
    let world = World::new();
    let of_hub = |wanted: fn(&Kind) -> bool| frames("normal", "hub", wanted);
    let (acknowledged, mut heard) = mpsc::channel(16);
    let old = Arc::new(OldHub {
        opened: of_hub(|kind| matches!(kind, Kind::Opened(_))),
        heartbeat: of_hub(|kind| matches!(kind, Kind::Heartbeat(_))).remove(0),
        deliveries: of_hub(|kind| matches!(kind, Kind::Entries(_))),
        drain: of_hub(|kind| matches!(kind, Kind::Drain(_))).remove(0),
        acknowledged,
    });
    let (_newest, material) = watch::channel(Arc::new(material(&world)));
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(address, material, domain, ListenerOptions::default());
    let listener = listener.await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let served = Server::builder()
        .add_service(ExchangeServiceServer::new(Served(old)))
        .serve_with_incoming(listener.incoming(stop.clone()));
    let server = tokio::spawn(served);

    let city = adapter_behind(&world, CITY, address);
    let mut door = city.gateway().await;
    let hand_over = |reference: &str, wait: u32| {
        let mut request = submit(complaint(reference), wait);
        request.handover.as_mut().unwrap().system = "lapor-semar".to_owned();
        request
    };
    for reference in ["LS-1", "LS-2"] {
        door.submit(hand_over(reference, 0)).await.unwrap();
    }
    let request = hand_over("LS-1", 30_000);
    let receipt = door.submit(request).await.unwrap().into_inner();
    let receipt = receipt.receipt.unwrap();
    assert!(receipt.repeated_handover);
    assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
    let decided = receipt.decision.unwrap();
    assert_eq!(decided.tracking_id, "G13NV7BKNNEQ8", "as it was recorded");
    eventually("decisions and event have come", async || {
        all_items(&city).await.len() == 3
    })
    .await;
    let recorded = frames("normal", "node", |kind| {
        matches!(kind, Kind::Acknowledgement(_))
    });
    let Some(Kind::Acknowledgement(last)) = recorded.last() else {
        panic!("{recorded:?}")
    };
    let mut told = heard.recv().await.unwrap();
    while told.position < last.position {
        let next = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await;
        told = next.unwrap().unwrap();
    }
    assert_eq!(&told, last, "both hold the same");
    assert!(Digest::from_slice(&told.chain).is_some());
    stop.cancel();
    server.abort();
}
