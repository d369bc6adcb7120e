//! What the transcripts begin with: stores, parties, hand-overs, backups.

use std::path::PathBuf;

use jembatan::{
    domain::{
        ComplaintName, EventBody, Handling, Handover, IdempotencyKey, Institution, InstitutionCode,
        Item, Micros, NewComplaint, NewEvent, Party, PartyId, PartyMode, Reference, RegionCode,
        RoutingRule, SystemName,
    },
    runtime::{Clock as _, ManualClock},
    store::{HubStore, NewSubmission, Store as _, sqlite::NodeRole},
    wire::{self, Composing},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::line::{Line, copy_store, store};
use crate::vectors::{keep, party, system};

/// The moment at which every transcript begins.
pub(crate) const BEGINNING: i64 = 1_790_000_000_000_000;

/// A hub and a node, and how it came to what they hold.
pub(crate) struct Scene {
    directory: TempDir,
    pub(crate) line: Line,
    salts: u8,
    before: Value,
}

pub(crate) fn national() -> PartyId {
    PartyId::parse("nasional").unwrap()
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let line = Line::new(directory.path(), &ManualClock::at(BEGINNING));
        register(&*line.hub).await;
        let before = line.state().await;
        Self {
            directory,
            line,
            salts: 0,
            before,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn compose(&mut self, owner: &PartyId, handover: &Handover) -> NewSubmission {
        let complaint_id = match &handover.item {
            Item::Complaint(_) => None,
            Item::Event(event) => match &event.complaint {
                ComplaintName::Id(id) => Some(*id),
                _ => panic!("named by its id here"),
            },
        };
        let composing = Composing {
            party: owner,
            now: Micros(self.line.clock.now_micros()),
            time_zone: "Asia/Jakarta",
            complaint_id,
        };
        let salts = &mut self.salts;
        let composed = wire::compose(handover.clone(), composing, || {
            *salts += 1;
            [*salts; 16]
        });
        let composed = composed.unwrap();
        NewSubmission {
            party: owner.clone(),
            event: composed.event,
            event_bytes: composed.event_bytes,
            parts: composed.parts,
            handover_digest: handover.digest(),
        }
    }

    /// A filing, handed over at the node's door.
    pub(crate) async fn file(&mut self, reference: &str, body: &str) -> NewSubmission {
        let filing = self.compose(&party(), &filing(reference, body));
        self.hand_over(filing.clone(), &format!("takes a filing, {reference}"))
            .await;
        filing
    }

    pub(crate) async fn hand_over(&mut self, item: NewSubmission, what: &str) {
        let now = Micros(self.line.clock.now_micros());
        let receipts = self.line.node.submit(vec![item], now).await.unwrap();
        receipts[0].as_ref().unwrap();
        self.line.note("node", what);
    }

    /// Everything so far is how it came to this.
    pub(crate) async fn begin_here(&mut self) {
        self.line.steps.clear();
        self.before = self.line.state().await;
    }

    /// Puts copies of a store into these directories; the store is closed.
    pub(crate) async fn back_up(&self, role: NodeRole, copies: &[&str]) {
        let (name, store) = match role {
            NodeRole::Hub => ("hub", &self.line.hub),
            NodeRole::Adapter => ("node", &self.line.node),
        };
        store.close().await;
        for copy in copies {
            copy_store(&self.path(name), &self.path(copy));
        }
    }

    pub(crate) fn use_hub(&mut self, name: &str) {
        self.line.hub = store(&self.path(name), NodeRole::Hub, 0x48, &self.line.clock);
    }

    pub(crate) fn use_node(&mut self, name: &str, byte: u8) {
        let path = self.path(name);
        self.line.node = store(&path, NodeRole::Adapter, byte, &self.line.clock);
    }

    pub(crate) async fn keep(self, name: &str, about: &str) -> Value {
        let transcript = json!({
            "about": about,
            "party": party(),
            "before": self.before,
            "steps": self.line.steps,
            "after": self.line.state().await,
        });
        keep(&format!("transcripts/{name}.json"), &transcript);
        transcript
    }
}

pub(crate) async fn register(hub: &dyn HubStore) {
    for (id, mode) in [(national(), PartyMode::Local), (party(), PartyMode::Stream)] {
        let party = Party {
            id,
            name: String::new(),
            mode,
            enabled: true,
            certificate_fingerprints: Vec::new(),
            observes_all: false,
            observes_institutions: Vec::new(),
        };
        hub.put_party(party).await.unwrap();
    }
    let code = InstitutionCode::parse(party().as_str()).unwrap();
    let institution = Institution {
        code: code.clone(),
        name: String::new(),
        parent: None,
        party: party(),
        region: None,
        enabled: true,
    };
    hub.put_institution(institution).await.unwrap();
    let rule = RoutingRule {
        region: Some(RegionCode::parse("33.74").unwrap()),
        category: None,
        institution: code,
    };
    hub.put_policy(Vec::new(), vec![rule]).await.unwrap();
    hub.set_national(national()).await.unwrap();
}

pub(crate) fn filing(reference: &str, body: &str) -> Handover {
    let mut new = NewComplaint::new(Reference::parse(reference).unwrap());
    new.title = "Jalan berlubang".to_owned();
    new.body = body.to_owned();
    new.region = Some(RegionCode::parse("33.74").unwrap());
    new.handling = Handling::Route;
    Handover {
        system: system(),
        key: None,
        item: Item::Complaint(Box::new(new)),
    }
}

pub(crate) fn happening(filed: &NewSubmission, key: &str, body: EventBody) -> NewEvent {
    let mut new = NewEvent::new(ComplaintName::Id(filed.event.complaint_id), body);
    new.text = format!("Catatan {key}.");
    new
}

pub(crate) fn as_handover(system: SystemName, key: &str, event: NewEvent) -> Handover {
    Handover {
        system,
        key: Some(IdempotencyKey::parse(key).unwrap()),
        item: Item::Event(Box::new(event)),
    }
}

/// The national desk classifies a complaint, at the hub's own door.
pub(crate) async fn classify(scene: &mut Scene, filed: &NewSubmission) {
    let body = EventBody::Classified {
        kind: None,
        category: None,
        region: None,
        oversight: Some(true),
    };
    let event = happening(filed, "N-1", body);
    let handover = as_handover(SystemName::parse("lapor").unwrap(), "N-1", event);
    let item = scene.compose(&national(), &handover);
    let now = Micros(scene.line.clock.now_micros());
    let receipts = scene.line.hub.submit(vec![item], now).await.unwrap();
    receipts[0].as_ref().unwrap();
    scene
        .line
        .note("hub", "takes an event of the national desk: classified");
}
