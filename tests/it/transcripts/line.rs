//! A hub and a node on real SQLite stores, and the line between them by hand:
//! one frame at a time, with a clock, ids, salts and keys that are always the
//! same, so that every byte is.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use jembatan::{
    domain::{DeliveryRecord, Limits, Micros, MinimumVersion, Policy, decide},
    exchange::{
        Direction, Drain, Effect, End, Entries, Entry, Frame, HeartbeatFacts, Input, Open, Opened,
        Place, PreviousEpoch, Session, hub_alarm,
    },
    hub::status_of,
    link::{
        HubLink, LinkEnd, LinkState, NodeLink, WireHeaders, answer, hub_session, open_frame,
        prepare,
    },
    runtime::{Clock as _, ManualClock},
    store::{
        AcceptBatch, AdapterStore as _, HubStore as _, IncomingEntry, ReceiveBatch, ReceivedEntry,
        SessionToken, Store as _, entry_size,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    wire::{self, v1},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic_types::StatusExt as _;

use crate::vectors::party;

const TOKEN: SessionToken = SessionToken([0x70; 16]);
const SOFTWARE: &str = "contoh/1.0.0";

/// What a store is: its directory, and the first byte of all its random ones.
pub(crate) fn store(at: &Path, role: NodeRole, byte: u8, clock: &ManualClock) -> Arc<SqliteStore> {
    let store = SqliteStore::open(Options {
        directory: at.to_owned(),
        role,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(clock.clone()),
        seed: [byte; 48],
        decide,
    });
    Arc::new(store.unwrap())
}

/// One end of an open session.
struct Half {
    session: Session,
    to_do: VecDeque<Effect>,
    over: Option<End>,
}

impl Half {
    fn new(session: Session) -> Self {
        Self {
            session,
            to_do: VecDeque::new(),
            over: None,
        }
    }

    fn feed(&mut self, input: Input) {
        let mut effects = Vec::new();
        // Time stands still in a session: one heartbeat each, at the beginning.
        self.session.apply(0, input, &mut effects);
        self.to_do.extend(effects);
    }

    fn frame(&mut self, facts: HeartbeatFacts) -> Option<Frame> {
        let mut effects = Vec::new();
        let frame = self.session.next_frame(|| facts, &mut effects);
        self.to_do.extend(effects);
        frame
    }
}

/// What the node's line does to the entries that it takes.
pub(crate) type Bend = fn(&mut Entries);

/// The line, and what was seen on it.
pub(crate) struct Line {
    pub(crate) hub: Arc<SqliteStore>,
    pub(crate) node: Arc<SqliteStore>,
    pub(crate) clock: ManualClock,
    pub(crate) steps: Vec<Value>,
    /// Told in `Opened`, as a hub does that was recovered.
    pub(crate) previous_epoch: Option<PreviousEpoch>,
    /// Bends the first entries of the node.
    pub(crate) bend: Option<Bend>,
    /// Sends each frame of entries twice.
    pub(crate) twice: bool,
    /// The line takes so many frames of the hub and is cut.
    pub(crate) cut_after: Option<usize>,
    /// The hub drains when there is nothing more to say.
    pub(crate) drain: Option<Drain>,
    /// The hub announces it.
    pub(crate) minimum_version: Option<MinimumVersion>,
}

impl Line {
    pub(crate) fn new(directory: &Path, clock: &ManualClock) -> Self {
        Self {
            hub: store(&directory.join("hub"), NodeRole::Hub, 0x48, clock),
            node: store(&directory.join("node"), NodeRole::Adapter, 0x4e, clock),
            clock: clock.clone(),
            steps: Vec::new(),
            previous_epoch: None,
            bend: None,
            twice: false,
            cut_after: None,
            drain: None,
            minimum_version: None,
        }
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    fn node_link(&self) -> NodeLink {
        NodeLink {
            party: party(),
            store: self.node.clone(),
            clock: Arc::new(self.clock.clone()),
            stop: watch::channel(None).1,
            state: Arc::new(watch::channel(LinkState::new(self.now())).0),
            certificate_expires_at: None,
            incarnation: None,
        }
    }

    fn hub_link(&self) -> HubLink {
        HubLink {
            party: party(),
            store: self.hub.clone(),
            token: TOKEN,
            limits: Limits::default(),
            minimum_version: None,
            clock: Arc::new(self.clock.clone()),
            stop: watch::channel(None).1,
            state: Arc::new(watch::channel(LinkState::new(self.now())).0),
            certificate_expires_at: None,
        }
    }

    /// Says what happens beside the frames.
    pub(crate) fn note(&mut self, at: &str, what: &str) {
        self.steps.push(json!({"at": at, "happens": what}));
    }

    /// Opens, and again if an epoch was entered; then carries frames until
    /// there is none, or the session ends.
    pub(crate) async fn run(&mut self) {
        loop {
            let (open, opened) = self.open().await;
            let heads = self.node.heads(&party()).await.unwrap();
            let node_link = self.node_link();
            let alarm = hub_alarm(&open, &opened);
            match prepare(&node_link, &heads, &opened).await.unwrap() {
                Ok((_, node)) => {
                    let hub = self.hub.heads(&party()).await.unwrap();
                    let hub = hub_session(&self.hub_link(), &open, &hub);
                    let received = open.received;
                    let direction = Direction::Deliveries;
                    let acknowledged = self.hub.acknowledge(&party(), direction, received);
                    acknowledged.await.unwrap();
                    return self.carry(Half::new(node), Half::new(hub)).await;
                }
                Err(LinkEnd::Reopen) => {
                    let what = format!(
                        "enters epoch {}, closes the stream, and opens again",
                        opened.epoch
                    );
                    self.note("node", &what);
                }
                Err(LinkEnd::Mismatch { reason, why }) => {
                    self.steps
                        .push(json!({"at": "node", "stops": reason, "why": why}));
                    let (reason, why) = alarm.expect("the hub turns red as well");
                    return self.ended(&LinkEnd::Mismatch { reason, why });
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    async fn open(&mut self) -> (Open, Opened) {
        let heads = self.node.heads(&party()).await.unwrap();
        let Frame::Open(mut open) = open_frame(&self.node_link(), &heads) else {
            panic!("the node begins with Open")
        };
        SOFTWARE.clone_into(&mut open.software);
        let Frame::Open(open) = self.node_says(Frame::Open(open)) else {
            panic!("it is read as what it was")
        };
        let (_, mut opened) = answer(&self.hub_link(), &open).await.unwrap();
        SOFTWARE.clone_into(&mut opened.software);
        opened.previous_epoch = self.previous_epoch.clone();
        let Frame::Opened(opened) = self.hub_says(Frame::Opened(Box::new(opened))) else {
            panic!("it is read as what it was")
        };
        (*open, *opened)
    }

    async fn carry(&mut self, mut node: Half, mut hub: Half) {
        let mut hub_frames = 0;
        loop {
            self.work_node(&mut node).await;
            self.work_hub(&mut hub).await;
            let from_node = node.frame(self.facts(true).await);
            let is_idle = from_node.is_none();
            if let Some(mut frame) = from_node {
                let mut times = 1;
                if let Frame::Entries(entries) = &mut frame {
                    if let Some(bend) = self.bend.take() {
                        bend(entries);
                    }
                    times += usize::from(self.twice);
                }
                for _ in 0..times {
                    let frame = self.node_says(frame.clone());
                    hub.feed(Input::Frame(frame));
                    self.work_hub(&mut hub).await;
                }
            }
            if let Some(end) = hub.over {
                return self.ended(&LinkEnd::Session(end));
            }
            match hub.frame(self.facts(false).await) {
                Some(_) if self.cut_after == Some(hub_frames) => {
                    self.cut_after = None;
                    return self.note("line", "is cut; what the hub had to say is lost");
                }
                Some(frame) => {
                    hub_frames += 1;
                    let frame = self.hub_says(frame);
                    node.feed(Input::Frame(frame));
                }
                None if is_idle => {
                    if let Some(drain) = self.drain.take() {
                        hub.feed(Input::Drain(drain));
                        let frame = hub.frame(HeartbeatFacts::default()).unwrap();
                        self.hub_says(frame);
                    }
                    return;
                }
                None => {}
            }
            assert_eq!(node.over, None, "the node goes on");
        }
    }

    async fn facts(&self, is_node: bool) -> HeartbeatFacts {
        let store = if is_node { &self.node } else { &self.hub };
        let heads = store.heads(&party()).await.unwrap();
        HeartbeatFacts {
            now: self.now(),
            oldest_waiting: heads.oldest_waiting,
            consumed_through: heads.consumed_through,
            software: SOFTWARE.to_owned(),
            certificate_expires_at: Some(Micros(1_800_000_000_000_000)),
            minimum_version: self.minimum_version.clone().filter(|_| !is_node),
        }
    }

    async fn work_node(&self, half: &mut Half) {
        let heads = self.node.heads(&party()).await.unwrap();
        half.feed(Input::Available(heads.submissions.position));
        while let Some(effect) = half.to_do.pop_front() {
            match effect {
                Effect::Store {
                    expected,
                    entries,
                    head,
                } => {
                    let batch = ReceiveBatch {
                        expected,
                        entries: entries.into_iter().map(received).collect(),
                        head,
                        now: self.now(),
                    };
                    let place = self.node.receive(&party(), batch).await.unwrap();
                    half.feed(Input::Stored(place));
                }
                Effect::StoreCopy { first, entries } => {
                    let entries = entries.into_iter().map(incoming).collect();
                    let left = self.node.fill_copy(&party(), first, entries).await.unwrap();
                    half.feed(Input::CopyStored(left.map(|left| (left.first, left.last))));
                }
                Effect::Heard(_) => {}
                other => common(&self.node, Direction::Submissions, other, half).await,
            }
        }
    }

    async fn work_hub(&self, half: &mut Half) {
        let heads = self.hub.heads(&party()).await.unwrap();
        half.feed(Input::Available(heads.deliveries));
        while let Some(effect) = half.to_do.pop_front() {
            match effect {
                Effect::Store {
                    expected,
                    entries,
                    head,
                } => {
                    let batch = AcceptBatch {
                        token: TOKEN,
                        expected,
                        entries: entries.into_iter().map(incoming).collect(),
                        head,
                        now: self.now(),
                    };
                    let place = self.hub.accept(&party(), batch).await.unwrap();
                    half.feed(Input::Stored(place));
                    let heads = self.hub.heads(&party()).await.unwrap();
                    half.feed(Input::Available(heads.deliveries));
                }
                Effect::Heard(heartbeat) => {
                    let consumed = heartbeat.consumed_through;
                    self.hub.consume(&party(), consumed).await.unwrap();
                }
                Effect::ReadCopy { first, last } => {
                    let direction = Direction::Submissions;
                    let before = self.hub.place_at(&party(), direction, first - 1);
                    let previous_chain = before.await.unwrap().unwrap().chain;
                    let most = (last - first + 1) as usize;
                    let read = self.hub.read(&party(), direction, first, most, usize::MAX);
                    let entries = read.await.unwrap();
                    half.feed(Input::CopyRead {
                        first,
                        previous_chain,
                        entries: entries.into_iter().map(|found| found.entry).collect(),
                    });
                }
                other => common(&self.hub, Direction::Deliveries, other, half).await,
            }
        }
    }

    fn node_says(&mut self, frame: Frame) -> Frame {
        let message = v1::ExchangeRequest {
            frame: Some(wire::frame_to_proto(frame)),
        };
        self.saw("node", "jembatan.v1.ExchangeRequest", &message);
        let read = v1::ExchangeRequest::decode(&*message.encode_to_vec()).unwrap();
        wire::frame_from_proto(read.frame.unwrap()).unwrap()
    }

    fn hub_says(&mut self, frame: Frame) -> Frame {
        let message = v1::ExchangeResponse {
            frame: Some(wire::frame_to_proto(frame)),
        };
        self.saw("hub", "jembatan.v1.ExchangeResponse", &message);
        let read = v1::ExchangeResponse::decode(&*message.encode_to_vec()).unwrap();
        wire::frame_from_proto(read.frame.unwrap()).unwrap()
    }

    fn saw<M: prost::Message + serde::Serialize>(&mut self, from: &str, name: &str, message: &M) {
        let json = serde_json::to_value(message).unwrap();
        let mut step = json!({
            "from": from,
            "message": name,
            "hex": hex::encode(message.encode_to_vec()),
            "json": json,
        });
        if let Some(entries) = json["frame"]["entries"]["entries"].as_array() {
            let meanings: Vec<Value> = entries.iter().map(meaning).collect();
            step["means"] = Value::Array(meanings);
        }
        self.steps.push(step);
        self.clock.advance(1_000);
    }

    /// The hub ends the stream with a status.
    fn ended(&mut self, end: &LinkEnd) {
        let status = status_of(end).expect("the hub says why");
        let info = status.get_details_error_info().unwrap();
        self.steps.push(json!({
            "from": "hub",
            "ends": {"code": format!("{:?}", status.code()), "reason": info.reason, "message": status.message()},
        }));
    }

    /// Where both ends stand.
    pub(crate) async fn state(&self) -> Value {
        let node = self.node.heads(&party()).await.unwrap();
        let hub = self.hub.heads(&party()).await.unwrap();
        let counts = self.hub.counts(&party()).await.unwrap();
        let copy = node
            .copy_wanted
            .map(|copy| json!({"first": copy.first, "last": copy.last}));
        json!({
            "node": {
                "epoch": node.epoch,
                "submissions": place(node.submissions),
                "acknowledged": place(node.submissions_acknowledged),
                "deliveries": place(node.deliveries_acknowledged),
                "consumed_through": node.consumed_through,
                "copy_wanted": copy,
            },
            "hub": {
                "epoch": hub.epoch,
                "submissions": place(hub.submissions),
                "deliveries": hub.deliveries,
                "deliveries_acknowledged": place(hub.deliveries_acknowledged),
                "consumed_through": hub.consumed_through,
                "accepted": counts.accepted,
                "duplicates": counts.duplicates,
                "rejected": counts.rejected,
            },
        })
    }
}

/// What both ends do alike.
async fn common(store: &SqliteStore, sends: Direction, effect: Effect, half: &mut Half) {
    match effect {
        Effect::Read {
            from,
            max_entries,
            max_bytes,
        } => {
            let (entries, bytes) = (max_entries as usize, max_bytes as usize);
            let read = store.read(&party(), sends, from, entries, bytes);
            let sized = read.await.unwrap().into_iter().map(|found| {
                let bytes = entry_size(&found.entry) as u64;
                (found.entry, bytes)
            });
            half.feed(Input::Read(sized.collect()));
        }
        Effect::Acknowledged(place) => {
            store.acknowledge(&party(), sends, place).await.unwrap();
        }
        Effect::Compare(place) => {
            let receives = match sends {
                Direction::Submissions => Direction::Deliveries,
                Direction::Deliveries => Direction::Submissions,
            };
            let own = store.place_at(&party(), receives, place.position);
            half.feed(Input::Compared(own.await.unwrap() == Some(place)));
        }
        Effect::End(end) => half.over = Some(end),
        other => panic!("no such effect at this end: {other:?}"),
    }
}

fn place(place: Place) -> Value {
    json!({"position": place.position, "chain": place.chain.to_string()})
}

/// What the bytes of an entry mean, for people.
fn meaning(entry: &Value) -> Value {
    use base64::Engine as _;
    let bytes = |name: &str| {
        let text = entry[name].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let (header, event) = (bytes("header"), bytes("event"));
    let mut means = json!({});
    if !header.is_empty() {
        let read = v1::DeliveryHeader::decode(&*header).unwrap();
        means["header"] = serde_json::to_value(read).unwrap();
    }
    if !event.is_empty() {
        means["event"] = match v1::Event::decode(&*event) {
            Ok(read) => serde_json::to_value(read).unwrap(),
            Err(_) => json!("not an event"),
        };
    }
    means
}

fn incoming(entry: Entry) -> IncomingEntry {
    let event = wire::decode_event(&entry.event);
    IncomingEntry { entry, event }
}

fn received(entry: Entry) -> ReceivedEntry {
    let record: Option<DeliveryRecord> = wire::decode_header(&entry.header).ok();
    let event = wire::decode_event(&entry.event).ok();
    ReceivedEntry {
        entry,
        record,
        event,
    }
}

/// Copies the directory of a store that is closed, as a backup does.
pub(crate) fn copy_store(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to.to_owned()
}
