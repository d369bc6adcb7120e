//! A hub's and a node's store, and the line between them by hand.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use crate::{
    domain::{
        ComplaintName, DeliveryRecord, EventBody, Handling, Handover, IdempotencyKey, Institution,
        InstitutionCode, Item, Micros, NewComplaint, NewEvent, Party, PartyId, PartyMode,
        Reference, RegionCode, RoutingRule, SystemName, TrackingId,
    },
    exchange::{Direction, Entry, Place, extend},
    store::{
        AcceptBatch, AdapterStore, DeadLetter, HubStore, IncomingEntry, LetterName, LetterQuery,
        NewSubmission, ReceiveBatch, ReceivedEntry, Recovered, SessionToken, sqlite::Decide,
    },
    wire::{self, Composing},
};

/// A party as most are registered.
pub(crate) fn registered(id: PartyId, mode: PartyMode) -> Party {
    Party {
        id,
        name: String::new(),
        mode,
        enabled: true,
        certificate_fingerprints: Vec::new(),
        observes_all: false,
        observes_institutions: Vec::new(),
    }
}

/// Opens stores of one engine.
pub(crate) trait Engine: Sync {
    fn hub(&self, directory: &Path, decide: Decide) -> Arc<dyn HubStore>;
    fn node(&self, directory: &Path) -> Arc<dyn AdapterStore>;
    /// What the store of a hub that does not run holds.
    fn keep(&self, directory: &Path) -> Kept;
    /// The store of a hub that does not run goes back to that.
    fn put_back(&self, directory: &Path, kept: &Kept);
    /// Its operator begins a new epoch.
    fn recover(&self, directory: &Path, now: Micros, dry_run: bool) -> Recovered;
    /// What an operator's command lists of a hub's store, which may be in use.
    fn letters(&self, directory: &Path, query: &LetterQuery) -> Vec<DeadLetter>;
    /// What an operator's command finds there by name.
    fn letters_named(&self, directory: &Path, name: &LetterName) -> Vec<DeadLetter>;
}

/// A file, or the name of a database.
pub(crate) struct Kept(pub(crate) Vec<u8>);

pub(crate) const TOKEN: SessionToken = SessionToken([7; 16]);

pub(crate) fn party(id: &str) -> PartyId {
    PartyId::parse(id).unwrap()
}

pub(crate) fn province() -> PartyId {
    party("pemda-33")
}

pub(crate) fn city() -> PartyId {
    party("pemda-33.74")
}

pub(crate) fn national() -> PartyId {
    party("nasional")
}

pub(crate) fn at(second: i64) -> Micros {
    Micros((1_790_000_000 + second) * 1_000_000)
}

/// A directory, a hub with three parties, and a node of each region.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) hub: Arc<dyn HubStore>,
    pub(crate) province: Arc<dyn AdapterStore>,
    pub(crate) city: Arc<dyn AdapterStore>,
}

impl World {
    pub(crate) async fn new(engine: &dyn Engine) -> Self {
        Self::deciding(engine, crate::domain::decide).await
    }

    pub(crate) async fn deciding(engine: &dyn Engine, decide: Decide) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hub = engine.hub(&directory.path().join("hub"), decide);
        for (id, mode) in [
            ("nasional", PartyMode::Local),
            ("pemda-33", PartyMode::Stream),
            ("pemda-33.74", PartyMode::Stream),
        ] {
            hub.put_party(registered(party(id), mode)).await.unwrap();
        }
        let code = |text: &str| InstitutionCode::parse(text).unwrap();
        for id in ["pemda-33", "pemda-33.74"] {
            hub.put_institution(Institution {
                code: code(id),
                name: String::new(),
                parent: None,
                party: party(id),
                region: None,
                enabled: true,
            })
            .await
            .unwrap();
        }
        let rule = RoutingRule {
            region: Some(RegionCode::parse("33.74").unwrap()),
            category: None,
            institution: code("pemda-33.74"),
        };
        hub.put_policy(Vec::new(), vec![rule]).await.unwrap();
        hub.set_national(party("nasional")).await.unwrap();
        let world = Self {
            province: engine.node(&directory.path().join("province")),
            city: engine.node(&directory.path().join("city")),
            hub,
            directory,
        };
        for (id, node) in [(province(), &world.province), (city(), &world.city)] {
            let heads = world.hub.open_session(&id, TOKEN).await.unwrap();
            node.adopt_epoch(&id, heads.epoch, 0).await.unwrap();
        }
        world
    }

    /// Carries submissions up, as a link would; how many.
    pub(crate) async fn carry_up(&self, id: &PartyId, node: &Arc<dyn AdapterStore>) -> usize {
        let expected = self.hub.heads(id).await.unwrap().submissions;
        let from = expected.position + 1;
        let read = node.read(id, Direction::Submissions, from, 1_000, usize::MAX);
        let entries: Vec<Entry> = read.await.unwrap().into_iter().map(|e| e.entry).collect();
        let count = entries.len();
        if count > 0 {
            let batch = self.batch(expected, entries);
            let place = self.hub.accept(id, batch).await.unwrap();
            node.acknowledge(id, Direction::Submissions, place)
                .await
                .unwrap();
        }
        count
    }

    pub(crate) fn batch(&self, expected: Place, entries: Vec<Entry>) -> AcceptBatch {
        AcceptBatch {
            token: TOKEN,
            expected,
            head: extend(expected, Direction::Submissions, &entries),
            entries: entries.into_iter().map(incoming).collect(),
            now: at(100),
        }
    }

    /// Entries come over a link of this party, behind what is there.
    pub(crate) async fn send(&self, id: &PartyId, entries: Vec<Entry>) {
        let expected = self.hub.heads(id).await.unwrap().submissions;
        let batch = self.batch(expected, entries);
        self.hub.accept(id, batch).await.unwrap();
    }

    /// The hub's process ends; another, empty one stands in for it.
    pub(crate) async fn stop_hub(&mut self, engine: &dyn Engine, aside: &str) {
        self.hub.close().await;
        let aside = self.directory.path().join(aside);
        self.hub = engine.hub(&aside, crate::domain::decide);
    }

    /// The processes of hub and province end, and begin again.
    pub(crate) async fn reopen(&mut self, engine: &dyn Engine, decide: Decide) {
        self.hub.close().await;
        self.province.close().await;
        let aside = self.directory.path().join("aside");
        // The old handles go before the new ones come.
        self.hub = engine.hub(&aside.join("hub"), decide);
        self.province = engine.node(&aside.join("province"));
        self.hub = engine.hub(&self.directory.path().join("hub"), decide);
        self.province = engine.node(&self.directory.path().join("province"));
        self.hub.open_session(&province(), TOKEN).await.unwrap();
    }

    /// As if another node of the party had taken this hand-over.
    pub(crate) async fn send_new(&self, id: &PartyId, new: &NewSubmission) {
        self.send_new_at(id, new, at(100)).await;
    }

    pub(crate) async fn send_new_at(&self, id: &PartyId, new: &NewSubmission, now: Micros) {
        let entry = Entry {
            header: Bytes::new(),
            event: new.event_bytes.clone(),
            parts: new.parts.clone(),
            handover_digest: Some(new.handover_digest),
        };
        let expected = self.hub.heads(id).await.unwrap().submissions;
        let batch = AcceptBatch {
            now,
            ..self.batch(expected, vec![entry])
        };
        self.hub.accept(id, batch).await.unwrap();
    }

    /// Carries deliveries down; how many.
    pub(crate) async fn carry_down(&self, id: &PartyId, node: &Arc<dyn AdapterStore>) -> usize {
        let expected = node.heads(id).await.unwrap().deliveries_acknowledged;
        let from = expected.position + 1;
        let read = self
            .hub
            .read(id, Direction::Deliveries, from, 1_000, usize::MAX);
        let entries: Vec<Entry> = read.await.unwrap().into_iter().map(|e| e.entry).collect();
        let head = extend(expected, Direction::Deliveries, &entries);
        let count = entries.len();
        let batch = ReceiveBatch {
            expected,
            entries: entries.into_iter().map(received).collect(),
            head,
            now: at(200),
        };
        node.receive(id, batch).await.unwrap();
        self.hub
            .acknowledge(id, Direction::Deliveries, head)
            .await
            .unwrap();
        count
    }

    /// The province files complaints of these names, and all that follows moves.
    pub(crate) async fn file(&self, names: &[&str]) {
        let batch = names
            .iter()
            .map(|name| filing(&province(), name, "isi", None));
        self.province.submit(batch.collect(), at(1)).await.unwrap();
        self.carry_all().await;
    }

    /// Until nothing moves any more.
    pub(crate) async fn carry_all(&self) {
        for _ in 0..3 {
            for (id, node) in [(province(), &self.province), (city(), &self.city)] {
                self.carry_up(&id, node).await;
                self.carry_down(&id, node).await;
            }
        }
    }
}

pub(crate) fn incoming(entry: Entry) -> IncomingEntry {
    let event = wire::decode_event(&entry.event);
    IncomingEntry { entry, event }
}

pub(crate) fn received(entry: Entry) -> ReceivedEntry {
    let record: Option<DeliveryRecord> = wire::decode_header(&entry.header).ok();
    let event = wire::decode_event(&entry.event).ok();
    ReceivedEntry {
        entry,
        record,
        event,
    }
}

fn compose(
    owner: &PartyId,
    handover: &Handover,
    id: Option<crate::domain::ComplaintId>,
) -> NewSubmission {
    let composing = Composing {
        party: owner,
        now: at(1),
        time_zone: "Asia/Jakarta",
        complaint_id: id,
    };
    let composed = wire::compose(
        handover.clone(),
        composing,
        crate::runtime::random_bytes::<16>,
    )
    .unwrap();
    NewSubmission {
        party: owner.clone(),
        event: composed.event,
        event_bytes: composed.event_bytes,
        parts: composed.parts,
        handover_digest: handover.digest(),
    }
}

fn system() -> SystemName {
    SystemName::parse("sistem").unwrap()
}

pub(crate) fn filing(
    owner: &PartyId,
    reference: &str,
    body: &str,
    key: Option<&str>,
) -> NewSubmission {
    filing_handled(owner, reference, body, key, Handling::Route)
}

/// "We do": the origin handles it.
pub(crate) fn own_filing(owner: &PartyId, reference: &str) -> NewSubmission {
    filing_handled(owner, reference, "isi", None, Handling::Own)
}

fn filing_handled(
    owner: &PartyId,
    reference: &str,
    body: &str,
    key: Option<&str>,
    handling: Handling,
) -> NewSubmission {
    let mut new = NewComplaint::new(Reference::parse(reference).unwrap());
    new.title = "Jalan rusak".to_owned();
    new.body = body.to_owned();
    new.region = Some(RegionCode::parse("33.74").unwrap());
    new.handling = handling;
    new.reporter.name = "Pelapor Uji 900".to_owned();
    let handover = Handover {
        system: system(),
        key: key.map(|key| IdempotencyKey::parse(key).unwrap()),
        item: Item::Complaint(Box::new(new)),
    };
    compose(owner, &handover, None)
}

/// An event with the party's own reference for what it was given.
pub(crate) fn referring(
    owner: &PartyId,
    filed: &NewSubmission,
    key: &str,
    body: EventBody,
    own_reference: &str,
) -> NewSubmission {
    let id = filed.event.complaint_id;
    let mut new = NewEvent::new(ComplaintName::Id(id), body);
    new.own_reference = Some(Reference::parse(own_reference).unwrap());
    let handover = Handover {
        system: system(),
        key: Some(IdempotencyKey::parse(key).unwrap()),
        item: Item::Event(Box::new(new)),
    };
    compose(owner, &handover, Some(id))
}

/// An event about a complaint that the store finds by its Tracking ID.
pub(crate) fn event(
    owner: &PartyId,
    filed: &NewSubmission,
    key: &str,
    body: EventBody,
) -> NewSubmission {
    let id = filed.event.complaint_id;
    let mut new = NewEvent::new(ComplaintName::Id(id), body);
    new.text = format!("teks {key}");
    let handover = Handover {
        system: system(),
        key: Some(IdempotencyKey::parse(key).unwrap()),
        item: Item::Event(Box::new(new)),
    };
    compose(owner, &handover, Some(id))
}

pub(crate) fn tracking_id(filed: &NewSubmission) -> TrackingId {
    TrackingId::derive(&filed.event.complaint_id, 0)
}

/// An entry that is no event.
pub(crate) fn garbage() -> Entry {
    Entry {
        header: Bytes::new(),
        event: Bytes::from_static(b"\xff\xff not an event"),
        parts: Vec::new(),
        handover_digest: None,
    }
}
