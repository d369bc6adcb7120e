//! What participants are told, as rows of their deliveries.

use crate::{
    domain::{DeliveryRecord, EventHeader, Telling, TrackingId},
    store::{
        HeaderEncoder, StoreError,
        told::{self, ToldEvent},
    },
};

use super::{
    damaged,
    plan::Tell,
    rows::readable_bits,
    world::{Revision, World},
    writes::DeliveryRow,
};

/// Revisions that somebody has to be told and that nobody has read yet: (row
/// of the complaint, first, last) each.
pub(super) fn lacking(tells: &[Tell], world: &World) -> Vec<(i64, u32, u32)> {
    let mut all = Vec::new();
    for tell in tells {
        let Tell::Event {
            complaint_row,
            telling,
            ..
        } = tell
        else {
            continue;
        };
        let lacks = |revision: &u32| !world.history.contains_key(&(*complaint_row, *revision));
        let mut missing = (telling.from_revision..=telling.through_revision).filter(lacks);
        if let Some(first) = missing.next() {
            all.push((*complaint_row, first, missing.next_back().unwrap_or(first)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The deliveries, in order. Everything that [`lacking`] named has been read.
pub(super) fn deliveries(
    tells: Vec<Tell>,
    world: &World,
    encoder: &dyn HeaderEncoder,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut rows = Vec::with_capacity(tells.len());
    for tell in tells {
        match tell {
            Tell::Decisions { party, set, now } => rows.push(DeliveryRow {
                party: party.to_string(),
                stored_at: now.0,
                header: encoder.encode(&DeliveryRecord::Decisions(set)).to_vec(),
                event_row: None,
                readable: 0,
            }),
            Tell::Event {
                complaint_row,
                tracking_id,
                telling,
                now,
            } => {
                for number in telling.from_revision..=telling.through_revision {
                    let revision = world
                        .history
                        .get(&(complaint_row, number))
                        .ok_or_else(|| damaged("a revision is missing"))?;
                    let header = header(revision, &tracking_id, &telling)?;
                    rows.push(DeliveryRow {
                        party: telling.party.to_string(),
                        stored_at: now.0,
                        header: encoder.encode(&DeliveryRecord::Event(header)).to_vec(),
                        event_row: Some(revision.row),
                        readable: readable_bits(&telling.readable_parts),
                    });
                }
            }
        }
    }
    Ok(rows)
}

/// Header of a delivery that tells of a revision.
pub(super) fn header(
    revision: &Revision,
    tracking_id: &TrackingId,
    telling: &Telling,
) -> Result<EventHeader, StoreError> {
    let decision = &revision.decision;
    let complaint_id = decision
        .complaint_id
        .ok_or_else(|| damaged("an accepted event without its complaint"))?;
    let event = ToldEvent {
        event_id: revision.event_id,
        author: revision.author.clone(),
        accepted_at: revision.accepted_at,
        hops: revision.hops,
    };
    told::header((complaint_id, tracking_id), decision, event, telling)
}
