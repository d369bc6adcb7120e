//! What a batch has decided to write, in plain values, before it is made into
//! rows.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::{
    domain::{
        Complaint, ComplaintId, Decision, DecisionSet, Digest, Event, EventId, Micros, Outcome,
        Part, PartKind, PartState, PartyId, Reference, SystemName, Telling, TrackingId,
    },
    exchange::Place,
    store::{StoreError, judging::state_json},
};

use super::{
    damaged,
    decisions::{outcome_number, to_json},
    rows::kind_number,
    world::World,
    writes::{
        ComplaintRow, ErasureRow, HeadRow, HeldRow, HistoryRow, PartRow, ReferenceRow,
        RepetitionRow, SeenRow, SettledRow, SubmissionRow, WorkItemRow, Writes,
    },
};

/// One more row of a submissions journal.
#[derive(Debug)]
pub(super) struct NewRow {
    pub(super) id: i64,
    pub(super) now: Micros,
    pub(super) event_id: Option<EventId>,
    pub(super) is_first: bool,
    pub(super) mac: [u8; 16],
    pub(super) event: Bytes,
    pub(super) handover_digest: Option<Digest>,
    pub(super) parts: Vec<Part>,
    pub(super) chain: Digest,
    pub(super) decision: Option<Decision>,
}

/// Somebody is told something, in the order of their deliveries.
#[derive(Debug)]
pub(super) enum Tell {
    /// Revisions of a complaint.
    Event {
        complaint_row: i64,
        tracking_id: TrackingId,
        telling: Telling,
        now: Micros,
    },
    /// Decisions on own submissions.
    Decisions {
        party: PartyId,
        set: DecisionSet,
        now: Micros,
    },
}

/// Party, system, code and name of a local status.
type WorkItemKey = (PartyId, SystemName, String, String);

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    rows: Vec<NewRow>,
    places: HashMap<i64, usize>,
    pub(super) histories: Vec<(i64, u32, i64, u32)>,
    pub(super) repetitions: Vec<(i64, i64)>,
    pub(super) references: Vec<(PartyId, SystemName, Reference, ComplaintId)>,
    erasures: Vec<ErasureRow>,
    pub(super) tells: Vec<Tell>,
    /// Parked submissions, and what was decided about them at last.
    pub(super) settled: Vec<(i64, Decision)>,
    work_items: BTreeMap<WorkItemKey, (i64, i64)>,
    held: BTreeMap<PartyId, Place>,
}

impl Plan {
    /// A submission that has come.
    pub(super) fn put(&mut self, row: NewRow) {
        self.places.insert(row.id, self.rows.len());
        self.rows.push(row);
    }

    /// A submission of this batch.
    pub(super) fn row(&mut self, id: i64) -> Option<&mut NewRow> {
        let place = self.places.get(&id)?;
        self.rows.get_mut(*place)
    }

    /// What was decided about a submission of this batch. Of what is rejected
    /// no text is kept: it belongs to no complaint, so no erasure would find it.
    pub(super) fn decided(&mut self, id: i64, decision: &Decision, is_first: bool) {
        let Some(row) = self.row(id) else { return };
        row.decision = Some(decision.clone());
        row.is_first = is_first;
        if decision.outcome == Outcome::Rejected {
            row.handover_digest = None;
            for part in &mut row.parts {
                if let PartState::Present(_) = part.state {
                    part.state = PartState::Withheld;
                }
            }
        }
    }

    /// Erases a part of a row: this very one, or whatever of its kind is not
    /// erased yet.
    pub(super) fn erase(&mut self, id: i64, kind: PartKind, sha256: Option<Digest>, by: EventId) {
        let Some(row) = self.row(id) else {
            self.erasures.push(ErasureRow {
                row: id,
                kind: kind_number(kind),
                sha256: sha256.map(|digest| digest.as_bytes().to_vec()),
                erased_by: by.as_bytes().to_vec(),
            });
            return;
        };
        for part in row.parts.iter_mut().filter(|part| part.kind == kind) {
            let is_meant = match sha256 {
                Some(digest) => part.sha256 == digest,
                None => !matches!(part.state, PartState::Erased(_)),
            };
            if is_meant {
                part.state = PartState::Erased(by);
                row.handover_digest = None;
            }
        }
    }

    /// Notes the local status of an event that was just stored, if no mapping
    /// table has a row for it.
    pub(super) fn note_unmapped(&mut self, event: &Event, now: Micros) {
        let Some(status) = event.unmapped_status() else {
            return;
        };
        // A text column holds no NUL.
        let clean = |text: &str| text.replace('\0', "\u{fffd}");
        let key = (
            event.party.clone(),
            event.system.clone(),
            clean(&status.code),
            clean(&status.name),
        );
        let (count, last_seen) = self.work_items.entry(key).or_default();
        *count += 1;
        *last_seen = now.0;
    }

    /// The node holds its deliveries through here.
    pub(super) fn hold(&mut self, party: &PartyId, place: Place) {
        let known = self.held.get(party);
        if known.is_none_or(|known| known.position < place.position) {
            self.held.insert(party.clone(), place);
        }
    }

    /// Parties whose state changes, beside those who are told.
    pub(super) fn holders(&self) -> impl Iterator<Item = &PartyId> {
        self.held.keys()
    }

    /// As rows; deliveries are added by whoever encodes them.
    pub(super) fn into_writes(self, world: &World, is_decided: bool) -> Result<Writes, StoreError> {
        let mut writes = Writes {
            directory: is_decided.then_some(world.directory_version),
            erasures: self.erasures,
            ..Writes::default()
        };
        for (party, head) in world.heads.iter().filter(|(_, head)| head.is_changed) {
            writes.heads.push(HeadRow {
                party: party.to_string(),
                read_position: head.read_position as i64,
                read_token: head.token.map(|token| token.0.to_vec()),
                position: head.place.position as i64,
                chain: head.place.chain.as_bytes().to_vec(),
                accepted: head.counts.accepted as i64,
                duplicates: head.counts.duplicates as i64,
                rejected: head.counts.rejected as i64,
                parked: head.counts.parked as i64 - head.settled as i64,
                repeated: head.counts.repeated_handovers as i64,
            });
        }
        for standing in world.complaints.values() {
            if let Some(version) = standing.read_version {
                let id = standing.row;
                writes.seen.push(SeenRow { id, version });
            }
            match standing.read_version {
                None => writes
                    .filed
                    .push(complaint_row(standing.row, &standing.complaint)?),
                Some(_) if standing.is_changed => writes
                    .changed
                    .push(complaint_row(standing.row, &standing.complaint)?),
                Some(_) => {}
            }
        }
        for row in self.rows {
            put_row(&mut writes, row)?;
        }
        for (id, decision) in self.settled {
            writes.settled.push(SettledRow {
                id,
                outcome: outcome_number(decision.outcome),
                decision: to_json(&decision)?,
            });
        }
        let histories = self.histories.into_iter();
        writes.histories = histories
            .map(|(complaint, revision, row, hops)| HistoryRow {
                complaint,
                revision: revision as i32,
                row,
                hops: hops as i32,
            })
            .collect();
        let repetitions = self.repetitions.into_iter();
        writes.repetitions = repetitions
            .map(|(complaint, row)| RepetitionRow { complaint, row })
            .collect();
        let references = self.references.into_iter();
        writes.references = references
            .map(|(party, system, reference, complaint)| ReferenceRow {
                party: party.to_string(),
                system: system.to_string(),
                reference: reference.to_string(),
                complaint_id: complaint.as_bytes().to_vec(),
            })
            .collect();
        let items = self.work_items.into_iter();
        writes.work_items = items
            .map(
                |((party, system, code, name), (count, last_seen))| WorkItemRow {
                    party: party.to_string(),
                    system: system.to_string(),
                    code,
                    name,
                    count,
                    last_seen,
                },
            )
            .collect();
        let held = self.held.into_iter();
        writes.held = held
            .map(|(party, place)| HeldRow {
                party: party.to_string(),
                position: place.position as i64,
                chain: place.chain.as_bytes().to_vec(),
            })
            .collect();
        Ok(writes)
    }
}

fn complaint_row(row: i64, complaint: &Complaint) -> Result<ComplaintRow, StoreError> {
    Ok(ComplaintRow {
        id: row,
        complaint_id: complaint.id.as_bytes().to_vec(),
        number: complaint.tracking_id.number() as i64,
        is_open: complaint.status.is_open(),
        handler: complaint.handler.as_ref().map(ToString::to_string),
        state: state_json(complaint)?,
    })
}

fn put_row(writes: &mut Writes, row: NewRow) -> Result<(), StoreError> {
    let decision = row
        .decision
        .ok_or_else(|| damaged("a submission that nobody decided"))?;
    for (place, part) in row.parts.into_iter().enumerate() {
        let (bytes, erased_by) = match part.state {
            PartState::Present(bytes) => (Some(bytes.to_vec()), None),
            PartState::Withheld => (None, None),
            PartState::Erased(by) => (None, Some(by.as_bytes().to_vec())),
        };
        writes.parts.push(PartRow {
            row: row.id,
            place: place as i16,
            kind: kind_number(part.kind),
            sha256: part.sha256.as_bytes().to_vec(),
            bytes,
            erased_by,
        });
    }
    writes.submissions.push(SubmissionRow {
        id: row.id,
        stored_at: row.now.0,
        event_id: row.event_id.map(|id| id.as_bytes().to_vec()),
        is_first: row.is_first,
        mac: row.mac.to_vec(),
        event: row.event.to_vec(),
        handover_digest: row.handover_digest.map(|digest| digest.as_bytes().to_vec()),
        chain: row.chain.as_bytes().to_vec(),
        outcome: outcome_number(decision.outcome),
        decision: to_json(&decision)?,
    });
    Ok(())
}
