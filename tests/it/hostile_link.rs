//! A hostile party behind a good certificate: it opens a stream as the protocol
//! says, and then does what it should not. A healthy party keeps exchanging.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jembatan::{
    domain::{
        ComplaintId, Digest, EventId, Handover, IdempotencyKey, Item, NewComplaint, PART_BYTES,
        PartyId, Reference, SystemName,
    },
    exchange::{Direction, Entries, Entry, Frame, Place, extend},
    wire::{self, Composing, v1},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    doors_health::as_party,
    support::{Node, PATIENCE, World, complaint, connected, now, submit},
};

const EVIL: &str = "pemda-33";
const GOOD: &str = "pemda-33.74";

/// A client of its own, which can say anything.
pub(crate) struct Attacker {
    outbound: mpsc::Sender<v1::ExchangeRequest>,
    inbound: Streaming<v1::ExchangeResponse>,
    epoch: u64,
    head: Place,
    acknowledged: u64,
    delivered: u64,
    decided: Vec<(u64, v1::Decision)>,
}

fn bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

fn place(from: &v1::Place) -> Place {
    Place {
        position: from.position,
        chain: Digest::from_slice(&from.chain).unwrap(),
    }
}

impl Attacker {
    /// Opens as a node that has lost its disk: it takes the hub's word.
    pub(crate) async fn open(world: &World, party: &str) -> Self {
        world.issue_party(party);
        let channel = as_party(world, party).await;
        // An epoch that is not the hub's: the hub tells its own.
        let mut epoch = 0;
        let id = PartyId::parse(party).unwrap();
        loop {
            let root = |direction| Place::root(&id, direction, epoch);
            let open = v1::Open {
                versions: vec![1],
                instance_id: Bytes::from(vec![7; 16]),
                software: "hostile/1".to_owned(),
                epoch,
                acknowledged: Some(wire::place_to(root(Direction::Submissions))),
                head_chain: bytes(&root(Direction::Submissions).chain),
                received: Some(wire::place_to(root(Direction::Deliveries))),
                sent_at: Some(wire::timestamp(now())),
                ..v1::Open::default()
            };
            let (outbound, frames) = mpsc::channel(4);
            outbound
                .send(sealed(v1::frame::Kind::Open(open)))
                .await
                .unwrap();
            let mut client =
                v1::exchange_service_client::ExchangeServiceClient::new(channel.clone())
                    .max_encoding_message_size(64 << 20);
            let answer = client.exchange(ReceiverStream::new(frames)).await.unwrap();
            let mut inbound = answer.into_inner();
            let first = inbound.message().await.unwrap().unwrap();
            let Some(v1::frame::Kind::Opened(opened)) = first.frame.unwrap().kind else {
                panic!("the hub begins with Opened");
            };
            if opened.epoch == epoch {
                let head = place(opened.head.as_ref().unwrap());
                return Self {
                    outbound,
                    inbound,
                    epoch,
                    acknowledged: head.position,
                    head,
                    delivered: 0,
                    decided: Vec::new(),
                };
            }
            epoch = opened.epoch;
        }
    }

    pub(crate) async fn send(&self, kind: v1::frame::Kind) {
        // The hub may have hung up: what it says is read by `end`.
        let _ = self.outbound.send(sealed(kind)).await;
    }

    /// The next entries, with the right chain.
    pub(crate) fn next(&mut self, entries: Vec<Entry>) -> v1::Entries {
        let frame = Entries {
            direction: Direction::Submissions,
            epoch: self.epoch,
            first_position: self.head.position + 1,
            previous_chain: self.head.chain,
            entries,
            copy: false,
        };
        self.head = extend(self.head, Direction::Submissions, &frame.entries);
        match wire::frame_to_proto(Frame::Entries(frame)).kind {
            Some(v1::frame::Kind::Entries(entries)) => entries,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send_entries(&mut self, entries: Vec<Entry>) {
        let frame = self.next(entries);
        self.send(v1::frame::Kind::Entries(frame)).await;
    }

    async fn hear(&mut self) -> Result<(), Status> {
        let heard = timeout(PATIENCE, self.inbound.message()).await;
        let frame = heard
            .expect("the hub says something in time")?
            .ok_or_else(|| Status::ok("the stream ended"))?;
        match frame.frame.unwrap().kind {
            Some(v1::frame::Kind::Acknowledgement(found)) => {
                self.acknowledged = self.acknowledged.max(found.position);
            }
            Some(v1::frame::Kind::Entries(found)) if !found.copy => self.receive(found).await,
            _ => {}
        }
        Ok(())
    }

    /// Takes deliveries over, and acknowledges them.
    async fn receive(&mut self, found: v1::Entries) {
        let frame = v1::Frame {
            kind: Some(v1::frame::Kind::Entries(found)),
        };
        let Ok(Frame::Entries(found)) = wire::frame_from_proto(frame) else {
            panic!("the hub's own frames can be read");
        };
        let before = Place {
            position: found.first_position - 1,
            chain: found.previous_chain,
        };
        assert_eq!(before.position, self.delivered);
        let through = extend(before, Direction::Deliveries, &found.entries);
        self.delivered = through.position;
        for entry in &found.entries {
            let header: v1::DeliveryHeader = prost::Message::decode(entry.header.clone()).unwrap();
            if let Some(v1::delivery_header::Record::Decisions(set)) = header.record {
                let numbered = (set.first_position..).zip(set.decisions);
                self.decided.extend(numbered);
            }
        }
        self.send(v1::frame::Kind::Acknowledgement(v1::Acknowledgement {
            journal: v1::Journal::Deliveries as i32,
            epoch: self.epoch,
            position: through.position,
            chain: bytes(&through.chain),
        }))
        .await;
    }

    pub(crate) async fn until_acknowledged(&mut self, position: u64) {
        while self.acknowledged < position {
            self.hear().await.unwrap();
        }
    }

    /// So many decisions, by the position of what they are about.
    pub(crate) async fn decisions(mut self, count: usize) -> Vec<(u64, v1::Decision)> {
        while self.decided.len() < count {
            self.hear().await.unwrap();
        }
        self.decided
    }

    /// With what the hub ends the stream.
    async fn end(mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }
}

fn sealed(kind: v1::frame::Kind) -> v1::ExchangeRequest {
    v1::ExchangeRequest {
        frame: Some(v1::Frame { kind: Some(kind) }),
    }
}

/// Good filings of a party.
pub(crate) fn entries_of(party: &str, numbers: std::ops::Range<u64>) -> Vec<Entry> {
    let party = PartyId::parse(party).unwrap();
    numbers
        .map(|n| entry_of(&party, &format!("H-{n}")))
        .collect()
}

fn entry_of(party: &PartyId, reference: &str) -> Entry {
    let handover = Handover {
        system: SystemName::parse("lapor").unwrap(),
        key: Some(IdempotencyKey::parse(reference).unwrap()),
        item: Item::Complaint(Box::new(NewComplaint {
            title: "Jalan rusak".to_owned(),
            body: "Jalan berlubang.".to_owned(),
            ..NewComplaint::new(Reference::parse(reference).unwrap())
        })),
    };
    let composing = Composing {
        party,
        now: now(),
        time_zone: "Asia/Jakarta",
        complaint_id: None,
    };
    let composed = wire::compose(handover.clone(), composing, || [9; 16]).unwrap();
    Entry {
        header: Bytes::new(),
        event: composed.event_bytes,
        parts: composed.parts,
        handover_digest: Some(handover.digest()),
    }
}

/// Bytes that are no event.
pub(crate) fn garbage() -> Entry {
    Entry {
        header: Bytes::new(),
        event: Bytes::from(vec![0xff; 300]),
        parts: Vec::new(),
        handover_digest: None,
    }
}

/// One complaint of the healthy party goes up and is decided.
async fn goes_on(good: &Node, reference: &str) {
    let mut door = good.gateway().await;
    let answer = door.submit(submit(complaint(reference), 20_000)).await;
    let receipt = answer.unwrap().into_inner().receipt.unwrap();
    assert_eq!(
        receipt.progress,
        v1::Progress::Accepted as i32,
        "{receipt:?}"
    );
}

type Attack = (&'static str, Code, &'static str);

/// Scenario: a party with a good certificate breaks the protocol in one way
/// after the other: a gap, another chain, another epoch, a chain of five bytes,
/// a frame without entries, entries of the hub's own journal, an acknowledgement
/// of what was never sent, a second Open, a copy that nobody asked for, a flood
/// of copy requests and of heartbeats, more entries than the window, a message
/// of 3 MB, and no Open at all.
/// Guarantee: each ends its own stream with the reason; nothing of it is stored;
/// a healthy party keeps exchanging in its one session all the while; and the
/// party itself can come back and be served as soon as it behaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_breaks_the_protocol_harms_only_itself() {
    use v1::frame::Kind;
    const ATTACKS: [Attack; 14] = [
        ("gap", Code::Aborted, "JOURNAL_MISMATCH"),
        ("chain", Code::Aborted, "JOURNAL_MISMATCH"),
        ("epoch", Code::Aborted, "JOURNAL_MISMATCH"),
        ("short chain", Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ("empty", Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ("journal", Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ("false word", Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ("open again", Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ("copy", Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ("copy flood", Code::InvalidArgument, "too many"),
        ("heartbeats", Code::InvalidArgument, "too many"),
        ("window", Code::InvalidArgument, "window"),
        ("window bytes", Code::InvalidArgument, "window"),
        ("large", Code::InvalidArgument, "beyond the limits"),
    ];
    let limits = "[limits]\nwindow_entries = 200\nwindow_bytes = 1000000";
    let world = World::with_hub(limits);
    let good = world.adapter(GOOD);
    let sessions = connected(&world, &good, GOOD).await;
    let evil = PartyId::parse(EVIL).unwrap();
    for (round, (attack, code, reason)) in ATTACKS.into_iter().enumerate() {
        let mut link = Attacker::open(&world, EVIL).await;
        let mut entries = link.next(vec![entry_of(&evil, "EVIL-1")]);
        let heartbeat = Kind::Heartbeat(v1::Heartbeat {
            sent_at: Some(wire::timestamp(now())),
            ..v1::Heartbeat::default()
        });
        match attack {
            "gap" => entries.first_position += 5,
            "chain" => entries.previous_chain = bytes(&Digest::of(b"another")),
            "epoch" => entries.epoch += 1,
            "short chain" => entries.previous_chain = Bytes::from_static(b"short"),
            "empty" => entries.entries.clear(),
            "journal" => entries.journal = v1::Journal::Deliveries as i32,
            "copy" => entries.copy = true,
            "large" => entries.entries[0].event = Bytes::from(vec![1; 3_000_000]),
            "window" | "window bytes" => {
                let mut entry = entry_of(&evil, "EVIL-1");
                if attack == "window bytes" {
                    entry.event = Bytes::from(vec![1; 1_900_000]);
                }
                // In one message, or in several at once: one of them comes before the
                // one before it can be on disk.
                link = Attacker::open(&world, EVIL).await;
                entries = match attack {
                    "window" => link.next(vec![entry; 201]),
                    _ => {
                        for _ in 0..7 {
                            let one = link.next(vec![entry.clone()]);
                            link.send(Kind::Entries(one)).await;
                        }
                        link.next(vec![entry])
                    }
                };
            }
            _ => {}
        }
        match attack {
            "false word" => {
                link.send(Kind::Acknowledgement(v1::Acknowledgement {
                    journal: v1::Journal::Deliveries as i32,
                    epoch: link.epoch,
                    position: 1_000_000,
                    chain: bytes(&Digest::of(b"x")),
                }))
                .await;
            }
            "open again" => {
                let root = wire::place_to(Place::root(&evil, Direction::Submissions, 1));
                let open = v1::Open {
                    versions: vec![1],
                    instance_id: Bytes::from(vec![7; 16]),
                    acknowledged: Some(root.clone()),
                    head_chain: root.chain.clone(),
                    received: Some(root),
                    sent_at: Some(wire::timestamp(now())),
                    ..v1::Open::default()
                };
                link.send(Kind::Open(open)).await;
            }
            "copy flood" => {
                for _ in 0..5_000 {
                    link.send(Kind::CopyRequest(v1::CopyRequest {
                        epoch: link.epoch,
                        first_position: 1,
                        last_position: 1,
                    }))
                    .await;
                }
            }
            "heartbeats" => {
                for _ in 0..3_000 {
                    link.send(heartbeat.clone()).await;
                }
            }
            _ => link.send(Kind::Entries(entries)).await,
        }
        let status = link.end().await;
        assert_eq!(status.code(), code, "{attack}: {status:?}");
        assert!(status.message().contains(reason), "{attack}: {status:?}");
        goes_on(&good, &format!("GOOD-{round}")).await;
    }
    assert_eq!(world.sessions(GOOD), sessions, "one went on all the while");
    let mut link = Attacker::open(&world, EVIL).await;
    let before = link.head.position;
    link.send_entries(entries_of(EVIL, 0..3)).await;
    link.until_acknowledged(before + 3).await;
}

/// Scenario: a party sends entries that are well chained and yet wrong: an
/// event in another party's name, one with a made-up event id, one with a
/// made-up complaint id, one about a complaint of another party, one of 65 kB,
/// one with a part of 257 kB, one with parts that it does not name.
/// Guarantee: each is acknowledged, so that it never blocks, and rejected with
/// the reason; the other party's complaint is as it was; good entries between
/// them are accepted; a healthy party is unaffected.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_lie_are_rejected_one_by_one() {
    let world = World::new();
    let good = world.adapter(GOOD);
    connected(&world, &good, GOOD).await;
    let mut own = complaint("MINE");
    own.handling = v1::Handling::Own as i32;
    let answer = good.gateway().await.submit(submit(own, 20_000)).await;
    let mine = answer.unwrap().into_inner().receipt.unwrap();
    let evil = PartyId::parse(EVIL).unwrap();
    let other = PartyId::parse(GOOD).unwrap();
    let altered = |reference: &str, change: &dyn Fn(&mut jembatan::domain::Event)| {
        let mut entry = entry_of(&evil, reference);
        let mut event = wire::decode_event(&entry.event).unwrap();
        change(&mut event);
        entry.event = wire::encode_event(&event);
        entry
    };
    let stolen = ComplaintId::from_text(&mine.complaint_id).unwrap();
    let mut large = entry_of(&evil, "LARGE");
    large.event = Bytes::from(vec![b'x'; 65 * 1024]);
    let mut large_part = entry_of(&evil, "PART");
    large_part.parts[0].state =
        jembatan::domain::PartState::Present(Bytes::from(vec![b'x'; PART_BYTES + 1]));
    let mut unnamed = entry_of(&evil, "UNNAMED");
    unnamed.parts.extend(
        entry_of(&evil, "OTHER-TEXT")
            .parts
            .into_iter()
            .map(|mut part| {
                part.sha256 = Digest::of(b"nobody names this");
                part
            }),
    );
    let wrong = [
        entry_of(&other, "IN-OTHER-NAME"),
        altered("EVENT-ID", &|event| {
            event.event_id = EventId::from_bytes([5; 16])
        }),
        altered("COMPLAINT-ID", &|event| {
            event.complaint_id = ComplaintId::from_bytes([5; 16]);
        }),
        altered("STOLEN", &|event| {
            event.complaint_id = stolen;
            event.body = jembatan::domain::EventBody::Closed;
            event.parts.clear();
        }),
        large,
        large_part,
        unnamed,
    ];
    let count = wrong.len() as u64;
    let mut link = Attacker::open(&world, EVIL).await;
    for (n, entry) in wrong.into_iter().enumerate() {
        link.send_entries(vec![entry]).await;
        link.send_entries(vec![entry_of(&evil, &format!("FINE-{n}"))])
            .await;
    }
    link.until_acknowledged(2 * count).await;
    let decisions = link.decisions(2 * count as usize).await;
    let mut reasons = Vec::new();
    for (position, decision) in &decisions {
        let is_fine = position % 2 == 0;
        let outcome = if is_fine {
            v1::Outcome::Accepted
        } else {
            v1::Outcome::Rejected
        };
        assert_eq!(decision.outcome, outcome as i32, "{position}: {decision:?}");
        let rejection = decision.rejection.as_ref();
        assert_eq!(rejection.is_none(), is_fine);
        let Some(rejection) = rejection else { continue };
        assert!(!rejection.text_id.is_empty(), "{position}");
        reasons.push(rejection.reason());
    }
    let wanted = [
        v1::RejectionReason::ForgedId,
        v1::RejectionReason::ForgedId,
        v1::RejectionReason::ForgedId,
        // Without its text it is not looked for, either.
        v1::RejectionReason::InvalidEvent,
        v1::RejectionReason::Unreadable,
        v1::RejectionReason::InvalidEvent,
        v1::RejectionReason::InvalidEvent,
    ];
    assert_eq!(reasons, wanted);
    goes_on(&good, "AFTER").await;
    let request = v1::GetComplaintRequest {
        complaint: Some(v1::ComplaintName {
            name: Some(v1::complaint_name::Name::Reference("MINE".to_owned())),
        }),
        ..v1::GetComplaintRequest::default()
    };
    let view = good.gateway().await.get_complaint(request).await.unwrap();
    let view = view.into_inner().complaint.unwrap();
    assert_eq!(view.history.len(), 1, "{view:?}");
}

/// How long the hub waits for a first word.
const FIRST_FRAME: Duration = Duration::from_secs(15);

/// Scenario: a party opens stream after stream on one connection, more than it may
/// have, and never says a word on any of them, while a healthy one exchanges.
/// Guarantee: no more than the connection's limit are held: the others get their
/// turn when those have ended; each ends by itself in time, and the healthy party
/// is unaffected.
#[tokio::test(flavor = "multi_thread")]
async fn silent_streams_hold_nobody_up() {
    let world = World::new();
    let good = world.adapter(GOOD);
    let sessions = connected(&world, &good, GOOD).await;
    world.issue_party(EVIL);
    let channel = as_party(&world, EVIL).await;
    let mut waiting = Vec::new();
    let (began, mut first) = (Instant::now(), Duration::ZERO);
    // More than a connection may have at once (64).
    for _ in 0..100 {
        let channel = channel.clone();
        waiting.push(tokio::spawn(async move {
            loop {
                let (outbound, frames) = mpsc::channel::<v1::ExchangeRequest>(1);
                let mut client =
                    v1::exchange_service_client::ExchangeServiceClient::new(channel.clone());
                let answer = client.exchange(ReceiverStream::new(frames)).await;
                let ended = match answer {
                    Ok(answer) => answer.into_inner().message().await.err(),
                    Err(status) => Some(status),
                };
                drop(outbound);
                // One that came before its place was free, and was refused: again.
                let is_refused = |status: &Status| format!("{status:?}").contains("REFUSED_STREAM");
                if !ended.as_ref().is_some_and(is_refused) {
                    return ended;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    for n in 0..10 {
        goes_on(&good, &format!("BESIDE-{n}")).await;
    }
    let mut ended = 0;
    for stream in waiting {
        let status = timeout(Duration::from_secs(60), stream).await;
        let status = status.expect("it ends by itself").unwrap().unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        ended += 1;
        if ended == 1 {
            // Whoever waits for a place has its whole time from there on.
            first = began.elapsed();
        }
    }
    let all = began.elapsed();
    let two_turns = 2 * FIRST_FRAME - Duration::from_secs(2);
    assert!(first < two_turns && all > two_turns, "{first:?}, {all:?}");
    assert_eq!(world.sessions(GOOD), sessions);
}
